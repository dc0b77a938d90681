#pragma once

#include "lamina/ops.h"  // ScanKind
