#include "backend/reference/layout_scratch.h"

#include <array>
#include <cstdlib>
#include <utility>

#include "core/fail.h"

namespace lamina {
namespace {

constexpr size_t kKeptBlocks = 4;
constexpr size_t kKeptBytes = size_t{8} << 20;  // largest block a thread keeps

struct Block {
  void* data = nullptr;
  size_t bytes = 0;
};

// Blocks the thread's last kernels gave back.
struct Cache {
  std::array<Block, kKeptBlocks> blocks;
  ~Cache() {
    for (Block& b : blocks) std::free(b.data);
  }
};
thread_local Cache cache;

}  // namespace

ScratchBytes::ScratchBytes(int64_t bytes)
    : data_(nullptr), bytes_((static_cast<size_t>(bytes) + 63) / 64 * 64) {
  if (bytes_ == 0) bytes_ = 64;
  Block* best = nullptr;
  for (Block& b : cache.blocks) {
    if (b.bytes >= bytes_ && (best == nullptr || b.bytes < best->bytes)) best = &b;
  }
  if (best != nullptr) {
    bytes_ = best->bytes;
    data_ = std::exchange(*best, Block{}).data;
    return;
  }
  data_ = std::aligned_alloc(64, bytes_);
  if (data_ == nullptr) fail<OutOfMemory>("scratch", "no memory for {} bytes of working space", bytes_);
}

ScratchBytes::~ScratchBytes() {
  Block mine{data_, bytes_};
  if (bytes_ <= kKeptBytes) {
    for (Block& b : cache.blocks) {
      if (b.bytes < mine.bytes) std::swap(b, mine);
    }
  }
  std::free(mine.data);
}

}  // namespace lamina
