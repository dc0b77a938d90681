#pragma once

#include "lamina/device.h"

namespace lamina {

// The stream that nodes built by this thread belong to: the thread's default device's default stream,
// or the innermost StreamScope's.
Stream current_stream();

// Makes `stream` current for this thread until the scope ends.
class StreamScope {
 public:
  explicit StreamScope(Stream stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream saved_;
  bool had_scope_;
};

}  // namespace lamina
