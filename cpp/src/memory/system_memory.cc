#include "memory/system_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "core/cgroup.h"
#include "memory/counters.h"
#include "memory/size_class.h"

namespace lamina {
namespace {

constinit std::atomic<uint64_t> system_allocations{0};

std::byte* map_pages(size_t bytes) {
  count_system_allocation();
  void* pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? nullptr : static_cast<std::byte*>(pages);
}

void unmap_pages(std::byte* pages, size_t bytes) {
  if (bytes == 0 || munmap(pages, bytes) == 0) return;
  // Too many maps to split one: the address range is lost, the memory need not be.
  madvise(pages, bytes, MADV_DONTNEED);
}

std::byte* map_huge(size_t bytes) {
  std::byte* pages = map_pages(bytes + kHugeBytes);
  if (pages == nullptr) return nullptr;
  const size_t head =
      round_up(reinterpret_cast<uintptr_t>(pages), kHugeBytes) - reinterpret_cast<uintptr_t>(pages);
  unmap_pages(pages, head);
  unmap_pages(pages + head + bytes, kHugeBytes - head);
  madvise(pages + head, bytes, MADV_HUGEPAGE);
  return pages + head;
}

}  // namespace

uint64_t system_allocation_count() { return system_allocations.load(std::memory_order_relaxed); }
void count_system_allocation() { system_allocations.fetch_add(1, std::memory_order_relaxed); }

size_t system_page_bytes() {
  static const size_t bytes = static_cast<size_t>(std::max(sysconf(_SC_PAGESIZE), 4096L));
  return bytes;
}

size_t physical_memory_bytes() {
  static const size_t bytes = [] {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const size_t machine = pages > 0 ? static_cast<size_t>(pages) * system_page_bytes() : size_t{1} << 40;
    const uint64_t group = cgroup_memory_limit_bytes();
    return group == 0 ? machine : std::min<size_t>(machine, group);
  }();
  return bytes;
}

void* system_block_allocate(size_t capacity) noexcept {
  if (capacity >= kHugeBytes) return map_huge(capacity);
  if (capacity > kSmallMaxBytes) return map_pages(capacity);
  count_system_allocation();
  return std::aligned_alloc(kAlignmentBytes, capacity);
}

void system_block_free(void* block, size_t capacity) noexcept {
  if (capacity > kSmallMaxBytes) {
    unmap_pages(static_cast<std::byte*>(block), capacity);
  } else {
    std::free(block);
  }
}

}  // namespace lamina
