#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace lamina {

// Base of intrusively counted objects; T must define `static void destroy(T*)`.
struct RefCounted {
  mutable std::atomic<uint32_t> refs{0};
};

// Intrusive shared pointer: one pointer wide, count inside the object.
template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}
  explicit Ref(T* p) : p_(p) { retain(p_); }
  Ref(const Ref& o) : p_(o.p_) { retain(p_); }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  Ref& operator=(const Ref& o) {
    Ref(o).swap(*this);
    return *this;
  }
  Ref& operator=(Ref&& o) noexcept {
    Ref(std::move(o)).swap(*this);
    return *this;
  }
  ~Ref() { release(p_); }

  void swap(Ref& o) noexcept { std::swap(p_, o.p_); }
  void reset() { Ref().swap(*this); }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) { return a.p_ == b.p_; }
  // Hands the count over to the caller.
  T* detach() { return std::exchange(p_, nullptr); }
  // Takes over a count that the caller holds.
  static Ref adopt(T* p) {
    Ref r;
    r.p_ = p;
    return r;
  }

  static void retain(T* p) {
    if (p) p->refs.fetch_add(1, std::memory_order_relaxed);
  }
  static void release(T* p) {
    if (p && p->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) T::destroy(p);
  }

 private:
  T* p_ = nullptr;
};

}  // namespace lamina
