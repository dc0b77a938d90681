#include <fmt/format.h>

#include "bindings/ops.h"
#include "lamina/linalg.h"

namespace lamina::bind {
namespace {

using Key = std::optional<Array>;

// `random.state`: a list that holds the key of the implicit sequence, so that compile and trees of saved
// state can capture it like any other list of arrays.
PyObject* state_list = nullptr;

void store_state() {
  if (PyList_SetItem(state_list, 0, wrap(random::state())) < 0) throw py::error_already_set();
}

// The given key, or the next one of the implicit sequence.
Key key_or_next(const Key& key) {
  if (key) return key;
  PyObject* held = PyList_GET_SIZE(state_list) == 1 ? PyList_GET_ITEM(state_list, 0) : nullptr;
  if (!held || !is_array(held)) throw ValueError("[random] random.state must be a list of one key");
  random::set_state(value_of(held));
  const Array next = random::next_key();
  store_state();
  return next;
}

// A seed: an integer that fits 64 bits.
uint64_t seed_argument(const Any& any) {
  if (!PyLong_Check(any.object)) {
    const std::optional<int64_t> i = as_integer(any.object);
    if (!i) any.wrong();
    if (*i < 0) throw ValueError(fmt::format("[random] a seed must not be negative, got {}", *i));
    return static_cast<uint64_t>(*i);
  }
  const unsigned long long seed = PyLong_AsUnsignedLongLong(any.object);
  if (seed == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    PyErr_Clear();
    throw ValueError(fmt::format("[random] a seed must be an integer from 0 to 2**64 - 1, got {}",
                                 std::string(py::str(borrowed(any.object)))));
  }
  return seed;
}

Dtype or_float(std::optional<Dtype> t) { return t.value_or(Dtype::kFloat32); }

void add_keys(const Scope& random) {
  def(random, "seed(seed: int)",
      "Starts this thread's implicit sequence of keys anew.\n@seed The seed.\n>>> mx.random.seed(7)\n",
      [](Any seed) {
        random::seed(seed_argument(seed));
        store_state();
      });
  def(random, "key(seed: int) -> array",
      "The key of a seed, uint32 of shape (2,).\n@seed The seed.\n"
      ">>> mx.random.key(7)\narray([0, 7], dtype=uint32)\n",
      [](Any seed) { return random::key(seed_argument(seed)); });
  def(random, "split(key: array, num: int = 2, stream: StreamOrDevice = None) -> array",
      "Keys that are independent of each other and of `key`, uint32 of shape (num, 2).\n@key The key.\n@num "
      "How many.\n"
      ">>> mx.random.split(mx.random.key(0), 3).shape\n(3, 2)\n",
      [](const Array& key, int num) { return random::split_keys(key, num); });
}

void add_distributions(const Scope& random) {
  def(random,
      "uniform(low: scalar | array = 0, high: scalar | array = 1, shape: Sequence[int] = (), dtype: Dtype | "
      "None = "
      "float32, key: array | None = None, stream: StreamOrDevice = None) -> array",
      "Evenly distributed numbers from [low, high).\n@low Lower end.\n@high Upper end.\n"
      ">>> mx.random.uniform(shape=(2, 3)).shape\n(2, 3)\n",
      [](const Array& low, const Array& high, const Shape& shape, std::optional<Dtype> t, const Key& key) {
        return random::uniform(low, high, shape, or_float(t), key_or_next(key));
      });
  def(random,
      "normal(shape: Sequence[int] = (), dtype: Dtype | None = float32, loc: scalar | array | None = None, "
      "scale: "
      "scalar | array | None = None, key: array | None = None, stream: StreamOrDevice = None) -> array",
      "Normally distributed numbers.\n@loc Mean, 0 by default.\n@scale Standard deviation, 1 by default.\n"
      ">>> mx.random.normal((2, 3), key=mx.random.key(0)).shape\n(2, 3)\n",
      [](const Shape& shape, std::optional<Dtype> t, const Key& loc, const Key& scale, const Key& key) {
        return random::normal(shape, or_float(t), loc, scale, key_or_next(key));
      });
  def(random,
      "randint(low: scalar | array, high: scalar | array, shape: Sequence[int] = (), dtype: Dtype | None = "
      "int32, key: "
      "array | None = None, stream: StreamOrDevice = None) -> array",
      "Evenly distributed integers from [low, high).\n@low Smallest integer.\n@high One above the largest.\n"
      ">>> mx.random.randint(0, 10, (2, 3)).shape\n(2, 3)\n",
      [](const Array& low, const Array& high, const Shape& shape, std::optional<Dtype> t, const Key& key) {
        return random::randint(low, high, shape, t.value_or(Dtype::kInt32), key_or_next(key));
      });
  def(random,
      "bernoulli(p: scalar | array = 0.5, shape: Sequence[int] | None = None, key: array | None = None, "
      "stream: "
      "StreamOrDevice = None) -> array",
      "True with probability p.\n@p Probability.\n@shape Shape of the result; that of p by default.\n"
      ">>> mx.random.bernoulli(0.5, (4,)).dtype\nlamina.core.bool\n",
      [](const Array& p, const std::optional<Shape>& shape, const Key& key) {
        return random::bernoulli(p, shape, key_or_next(key));
      });
  def(random,
      "truncated_normal(lower: scalar | array, upper: scalar | array, shape: Sequence[int] | None = None, "
      "dtype: Dtype | "
      "None = float32, key: array | None = None, stream: StreamOrDevice = None) -> array",
      "Normally distributed numbers between two bounds.\n@lower Lower bound.\n@upper Upper bound.\n"
      "@shape Shape of the result; the bounds' by default.\n>>> mx.random.truncated_normal(-1, 1, "
      "(3,)).shape\n(3,)\n",
      [](const Array& lower, const Array& upper, const std::optional<Shape>& shape, std::optional<Dtype> t,
         const Key& key) {
        return random::truncated_normal(lower, upper, shape, or_float(t), key_or_next(key));
      });
  def(random,
      "gumbel(shape: Sequence[int] = (), dtype: Dtype | None = float32, key: array | None = None, stream: "
      "StreamOrDevice "
      "= None) -> array",
      "Numbers of the standard Gumbel distribution.\n>>> mx.random.gumbel((3,)).shape\n(3,)\n",
      [](const Shape& shape, std::optional<Dtype> t, const Key& key) {
        return random::gumbel(shape, or_float(t), key_or_next(key));
      });
  def(random,
      "laplace(shape: Sequence[int] = (), dtype: Dtype | None = float32, loc: float = 0.0, scale: float = "
      "1.0, key: array "
      "| None = None, stream: StreamOrDevice = None) -> array",
      "Numbers of a Laplace distribution.\n@loc Mean.\n@scale Scale.\n>>> "
      "mx.random.laplace((3,)).shape\n(3,)\n",
      [](const Shape& shape, std::optional<Dtype> t, double loc, double scale, const Key& key) {
        return random::laplace(shape, or_float(t), loc, scale, key_or_next(key));
      });
  def(random,
      "multivariate_normal(mean: array, cov: array, shape: Sequence[int] = (), dtype: Dtype | None = "
      "float32, "
      "key: array | None = None, stream: StreamOrDevice = None) -> array",
      "Numbers of jointly normal distributions, shape + (n,).\n@mean Means, (..., n).\n"
      "@cov Covariances, positive semi-definite, (..., n, n).\n@shape Batch of the result; that of the "
      "arguments "
      "by default.\n@raises ValueError Where shapes do not fit, or for another dtype than float32.\n"
      ">>> mx.random.multivariate_normal(mx.zeros(2), mx.eye(2), (3,)).shape\n(3, 2)\n",
      [](const Array& mean, const Array& cov, const Shape& shape, std::optional<Dtype> t, const Key& key) {
        return random::multivariate_normal(mean, cov, shape, or_float(t), key_or_next(key));
      });
}

void add_choices(const Scope& random) {
  def(random,
      "categorical(logits: array, axis: int = -1, shape: Sequence[int] | None = None, num_samples: int | "
      "None = None, "
      "key: array | None = None, stream: StreamOrDevice = None) -> array",
      "Classes drawn with the probabilities softmax(logits) along an axis, uint32.\n@logits Unnormalized "
      "log-probabilities.\n"
      "@shape Shape of the result, to which the logits' other axes broadcast.\n@num_samples Samples for each "
      "distribution, as a last axis.\n"
      "@raises ValueError Where both shape and num_samples are given.\n>>> "
      "mx.random.categorical(mx.zeros((2, 5))).shape\n(2,)\n",
      [](const Array& logits, int64_t axis, const std::optional<Shape>& shape, std::optional<int64_t> samples,
         const Key& key) { return random::categorical(logits, axis, shape, samples, key_or_next(key)); });
  def(random,
      "permutation(x: int | array, axis: int = 0, key: array | None = None, stream: StreamOrDevice = None) "
      "-> array",
      "The array's slices along an axis in random order, or the integers below x.\n@x Array, or a number of "
      "integers.\n"
      ">>> mx.sort(mx.random.permutation(3)).tolist()\n[0, 1, 2]\n",
      [](Any x, int64_t axis, const Key& key) {
        if (!is_array(x.object)) {
          if (const std::optional<int64_t> n = as_integer(x.object))
            return random::permutation(*n, key_or_next(key));
        }
        const std::optional<Array> a = as_array(x.object);
        if (!a) x.wrong();
        return random::permutation(*a, axis, key_or_next(key));
      });
}

}  // namespace

void add_random(const Scope& random) {
  state_list = checked(PyList_New(1));
  PyList_SET_ITEM(state_list, 0, wrap(random::state()));
  if (PyObject_SetAttrString(random.object, "state", state_list) < 0) throw py::error_already_set();
  add_keys(random);
  add_distributions(random);
  add_choices(random);
}

}  // namespace lamina::bind
