#include "backend/paged_call.h"

#include "core/fail.h"

namespace lamina {
namespace {

int64_t element(const View& v, int64_t i) { return v.as<int32_t>()[i * v.strides[0]]; }

void check_blocks(const PagedArgs& a, const PagedSequence& s) {
  const int64_t blocks = a.k.shape[0], size = a.block_rows();
  for (int64_t i = a.first_seen(s.position(0)) / size; i * size < s.length; ++i) {
    const int64_t block = a.block_of(s.index, i * size);
    if (block >= 0 && block < blocks) continue;
    fail<IndexError>("paged_attention", "tables[{}, {}] is {}, the pool has {} blocks", s.index, i, block,
                     blocks);
  }
}

}  // namespace

PagedArgs::PagedArgs(const KernelCall& c)
    : q(c.in[0]), k(c.in[1]), v(c.in[2]), tables(c.in[3]), ends(c.in[4]), lengths(c.in[5]), out(c.out[0]) {
  const auto& p = c.as<PagedAttentionParams>();
  size_t next = 6;
  if (p.has_sinks) sinks = &c.in[next++];
  if (p.has_key_scales) key_scales = &c.in[next++];
  if (p.has_value_scales) value_scales = &c.in[next++];
  scale = p.scale, softcap = p.softcap, window = p.window;
}

std::vector<PagedSequence> paged_sequences(const PagedArgs& a) {
  const char* op = "paged_attention";
  std::vector<PagedSequence> out;
  const int64_t room = a.tables.shape[1] * a.block_rows();
  int64_t begin = 0;
  for (int64_t b = 0; b < a.tables.shape[0]; ++b) {
    const int64_t end = element(a.ends, b), length = element(a.lengths, b);
    if (end < begin || end > a.q.shape[0]) {
      fail<ValueError>(op, "query_ends[{}] is {}, wanted a number from {} to {}", b, end, begin,
                       a.q.shape[0]);
    }
    const PagedSequence s{b, begin, end - begin, length};
    begin = end;
    if (s.rows == 0) continue;
    if (length < s.rows || length > room) {
      fail<ValueError>(op, "lengths[{}] is {}, wanted from {} new positions to the {} of its table", b,
                       length, s.rows, room);
    }
    check_blocks(a, s);
    out.push_back(s);
  }
  return out;
}

void for_each_slot(const KernelCall& c, FunctionRef<void(int64_t, int64_t, int64_t)> write) {
  const View& slots = c.in[2];
  const int64_t size = c.out[0].shape[2], count = c.out[0].shape[0] * size;
  for (int64_t i = 0; i < slots.size(); ++i) {
    const int64_t slot = element(slots, i);
    if (slot < -1 || slot >= count) {
      fail<IndexError>("cache_write", "slots[{}] is {}, the pool has {} slots", i, slot, count);
    }
  }
  for (int64_t i = 0; i < slots.size(); ++i) {
    const int64_t slot = element(slots, i);
    if (slot >= 0) write(i, slot / size, slot % size);
  }
}

}  // namespace lamina
