#include "backend/cpu/gemm_scratch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/fail.h"
#include "memory/counters.h"

namespace lamina::cpu {
namespace {

constexpr size_t kAlign = 64, kFirstBlock = size_t{256} << 10, kHugePage = size_t{2} << 20;

struct Block {
  std::byte* data;
  size_t bytes;
};

// A stack of blocks; a new block is made where the top one has no room. When the stack empties, several
// blocks are replaced by one of their total size, so that a steady state works in a single block.
class Arena {
 public:
  ~Arena() {
    for (Block& b : blocks_) std::free(b.data);
  }

  void* take(size_t bytes, size_t* mark_block, size_t* mark_used) {
    bytes = (bytes + kAlign - 1) / kAlign * kAlign;
    *mark_block = top_;
    *mark_used = used_;
    if (blocks_.empty() || used_ + bytes > blocks_[top_].bytes) open_block(bytes);
    std::byte* p = blocks_[top_].data + used_;
    used_ += bytes;
    return p;
  }

  void release(size_t mark_block, size_t mark_used) {
    top_ = mark_block;
    used_ = mark_used;
    if (top_ == 0 && used_ == 0 && blocks_.size() > 1) merge();
  }

  int64_t reserved() const {
    size_t n = 0;
    for (const Block& b : blocks_) n += b.bytes;
    return static_cast<int64_t>(n);
  }

 private:
  static Block allocate(size_t bytes) {
    const size_t align = bytes >= kHugePage ? kHugePage : kAlign;
    bytes = (bytes + align - 1) / align * align;
    count_system_allocation();
    auto* p = static_cast<std::byte*>(std::aligned_alloc(align, bytes));
    if (!p) fail<OutOfMemory>("scratch", "wanted {} bytes of working memory, the system has no more", bytes);
    // Advice only: without huge pages the kernels run on, with more TLB misses.
    if (align == kHugePage) (void)madvise(p, bytes, MADV_HUGEPAGE);
    return {p, bytes};
  }

  // Makes the next block hold at least `bytes`, and moves to it.
  void open_block(size_t bytes) {
    const size_t next = blocks_.empty() ? 0 : top_ + 1;
    if (next < blocks_.size() && blocks_[next].bytes < bytes) {
      for (size_t i = next; i < blocks_.size(); ++i) std::free(blocks_[i].data);
      blocks_.resize(next);
    }
    if (next == blocks_.size()) {
      blocks_.reserve(next + 1);
      const size_t grown = blocks_.empty() ? kFirstBlock : 2 * blocks_.back().bytes;
      blocks_.push_back(allocate(std::max(bytes, std::min(grown, size_t{64} << 20))));
    }
    top_ = next;
    used_ = 0;
  }

  void merge() {
    const size_t total = static_cast<size_t>(reserved());
    for (Block& b : blocks_) std::free(b.data);
    blocks_.clear();
    // Runs in a destructor: where the system refuses, the next Scratch starts afresh and reports it.
    try {
      blocks_.push_back(allocate(total));
    } catch (const OutOfMemory&) { blocks_.clear(); }
  }

  std::vector<Block> blocks_;
  size_t top_ = 0, used_ = 0;
};

thread_local Arena arena;

}  // namespace

Scratch::Scratch(int64_t bytes) {
  data_ = arena.take(static_cast<size_t>(std::max<int64_t>(bytes, 1)), &mark_block_, &mark_used_);
}

Scratch::~Scratch() { arena.release(mark_block_, mark_used_); }

int64_t scratch_reserved_bytes() { return arena.reserved(); }

}  // namespace lamina::cpu
