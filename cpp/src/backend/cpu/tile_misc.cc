#include <cstring>

#include "backend/cpu/simd_target.h"
#include "backend/cpu/tile.h"
#include "backend/cpu/tile_tables.h"
#include "backend/tile_copies.h"

#define LAMINA_WITHOUT_AVX3_DL
#include "backend/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/tile_misc.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

#include "backend/cpu/binary-inl.h"
#include "backend/cpu/tile-inl.h"
#include "backend/cpu/unary-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lamina {
namespace HWY_NAMESPACE {
#if LAMINA_SIMD_TARGET
namespace {

using namespace hn;

// ---- bool: bytes 0 and 1

struct NotBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return Xor(x, Set(d, 1));
  }
};
struct CopyBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x) const {
    return x;
  }
};
struct AndBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return And(x, y);
  }
};
struct OrBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return Or(x, y);
  }
};
struct XorBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return Xor(x, y);
  }
};
struct EqualBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return Xor(Xor(x, y), Set(d, 1));
  }
};
struct LessBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return AndNot(x, y);
  }
};
struct LessEqualBytes {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return Or(y, Xor(x, Set(d, 1)));
  }
};
template <class F>
struct Swapped {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return F()(d, y, x);
  }
};

// ---- complex64: pairs of float32 lanes

template <class F>
void complex_unary(const void* const* in, void* out, size_t n) {
  tile::unary<F, float>(in, out, 2 * n);
}
template <class F>
void complex_binary(const void* const* in, void* out, size_t n) {
  tile::binary<F, float>(in, out, 2 * n);
}
struct NegativeParts {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return kernel::negative(d, x);
  }
};
struct ConjugateParts {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    const Repartition<uint64_t, D> dw;
    return Xor(x, BitCast(d, Set(dw, uint64_t{1} << 63)));
  }
};
struct RoundParts {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x) const {
    return Round(x);
  }
};
struct AddParts {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return Add(x, y);
  }
};
struct SubtractParts {
  template <class D, class V>
  HWY_INLINE V operator()(D, V x, V y) const {
    return Sub(x, y);
  }
};
// Rounds each product, as the definition does.
template <class D, class V>
HWY_INLINE V complex_product(D d, V x, V y) {
  V direct = Mul(DupEven(x), y), crossed = Mul(DupOdd(x), Reverse2(d, y));
  return OddEven(Add(direct, crossed), Sub(direct, crossed));
}
struct MultiplyParts {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x, V y) const {
    return complex_product(d, x, y);
  }
};
struct SquareParts {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return complex_product(d, x, x);
  }
};

// ---- select moves bits, so only the item size matters

template <class T>
void select_lanes(const void* const* in, void* out, size_t n) {
  const ScalableTag<T> d;
  const Rebind<uint8_t, decltype(d)> db;
  const uint8_t* c = static_cast<const uint8_t*>(in[0]);
  const T* x = static_cast<const T*>(in[1]);
  const T* y = static_cast<const T*>(in[2]);
  T* z = static_cast<T*>(out);
  size_t i = 0;
  for (; i + Lanes(d) <= n; i += Lanes(d)) {
    auto where = tile::mask_of_bytes(d, LoadU(db, c + i));
    StoreU(IfThenElse(where, LoadU(d, x + i), LoadU(d, y + i)), d, z + i);
  }
  if (size_t rest = n - i) {
    auto where = tile::mask_of_bytes(d, tile::load_first(db, c + i, rest));
    auto picked = IfThenElse(where, tile::load_first(d, x + i, rest), tile::load_first(d, y + i, rest));
    tile::store_first(picked, d, z + i, rest);
  }
}

}  // namespace

TileFn find_bool(OpId id) {
  switch (id) {
    case OpId::LogicalNot:
    case OpId::BitwiseInvert: return &tile::unary<NotBytes, uint8_t>;
    case OpId::Abs:
    case OpId::Sign:
    case OpId::Square:
    case OpId::Floor:
    case OpId::Ceil:
    case OpId::Trunc:
    case OpId::Round:
    case OpId::Conjugate:
    case OpId::Real: return &tile::unary<CopyBytes, uint8_t>;
    case OpId::Multiply:
    case OpId::Minimum:
    case OpId::FloorDivide:
    case OpId::LogicalAnd:
    case OpId::BitwiseAnd: return &tile::binary<AndBytes, uint8_t>;
    case OpId::Add:
    case OpId::Maximum:
    case OpId::LogicalOr:
    case OpId::BitwiseOr: return &tile::binary<OrBytes, uint8_t>;
    case OpId::Subtract:
    case OpId::NotEqual:
    case OpId::LogicalXor:
    case OpId::BitwiseXor: return &tile::binary<XorBytes, uint8_t>;
    case OpId::Equal: return &tile::binary<EqualBytes, uint8_t>;
    case OpId::Less: return &tile::binary<LessBytes, uint8_t>;
    case OpId::LessEqual: return &tile::binary<LessEqualBytes, uint8_t>;
    case OpId::Greater: return &tile::binary<Swapped<LessBytes>, uint8_t>;
    case OpId::GreaterEqual: return &tile::binary<Swapped<LessEqualBytes>, uint8_t>;
    default: return nullptr;
  }
}

TileFn find_complex(OpId id) {
  switch (id) {
    case OpId::Negative: return &complex_unary<NegativeParts>;
    case OpId::Conjugate: return &complex_unary<ConjugateParts>;
    case OpId::Round: return &complex_unary<RoundParts>;
    case OpId::Square: return &complex_unary<SquareParts>;
    case OpId::Add: return &complex_binary<AddParts>;
    case OpId::Subtract: return &complex_binary<SubtractParts>;
    case OpId::Multiply: return &complex_binary<MultiplyParts>;
    default: return nullptr;
  }
}

template <class T>
void spread_lanes(void* out, const void* value, int64_t n) {
  const ScalableTag<T> d;
  T element;
  std::memcpy(&element, value, sizeof(T));
  const auto v = Set(d, element);
  T* to = static_cast<T*>(out);
  size_t i = 0;
  for (; i + Lanes(d) <= static_cast<size_t>(n); i += Lanes(d)) StoreU(v, d, to + i);
  if (i < static_cast<size_t>(n)) tile::store_first(v, d, to + i, static_cast<size_t>(n) - i);
}
void spread(void* out, const void* value, int64_t n, int64_t item) {
  switch (item) {
    case 1: return spread_lanes<uint8_t>(out, value, n);
    case 2: return spread_lanes<uint16_t>(out, value, n);
    case 4: return spread_lanes<uint32_t>(out, value, n);
    default: return spread_lanes<uint64_t>(out, value, n);
  }
}

SpreadFn find_spread() { return &spread; }

TileFn find_select(Dtype compute) {
  switch (itemsize(compute)) {
    case 1: return &select_lanes<uint8_t>;
    case 2: return &select_lanes<uint16_t>;
    case 4: return &select_lanes<uint32_t>;
    default: return &select_lanes<uint64_t>;
  }
}
#else
TileFn find_bool(OpId) { return nullptr; }
TileFn find_complex(OpId) { return nullptr; }
TileFn find_select(Dtype) { return nullptr; }
SpreadFn find_spread() { return nullptr; }
#endif  // LAMINA_SIMD_TARGET
}  // namespace HWY_NAMESPACE
}  // namespace lamina
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lamina {
HWY_EXPORT(find_bool);
HWY_EXPORT(find_complex);
HWY_EXPORT(find_select);
HWY_EXPORT(find_spread);
TileFn bool_tile(OpId id) { return HWY_DYNAMIC_DISPATCH(find_bool)(id); }
TileFn complex_tile(OpId id) { return HWY_DYNAMIC_DISPATCH(find_complex)(id); }
TileFn select_tile(Dtype compute) { return HWY_DYNAMIC_DISPATCH(find_select)(compute); }
SpreadFn spread_tile() {
  init_simd_target();
  const SpreadFn fast = HWY_DYNAMIC_DISPATCH(find_spread)();
  return fast ? fast : fill;
}
}  // namespace lamina
#endif
