#include <algorithm>
#include <map>

#include "lamina/linalg.h"
#include "ops/common.h"

namespace lamina {
namespace {

constexpr const char* kOp = "einsum";
// A letter's code; the axes of an ellipsis count from here, the last one first.
constexpr int kEllipsis = 256;
using Labels = std::vector<int>;

bool holds(const Labels& labels, int l) { return std::find(labels.begin(), labels.end(), l) != labels.end(); }
void add_new(Labels& to, const Labels& from) {
  for (int l : from) {
    if (!holds(to, l)) to.push_back(l);
  }
}

struct Term {
  Labels labels;
  Shape shape;
};
struct Equation {
  std::vector<Term> terms;
  Labels out;
  std::map<int, int64_t> length;  // of every label
  std::string text;
};

// Labels of one term; an ellipsis takes `rest` axes.
Labels parse_term(const std::string& text, int64_t rest) {
  Labels out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (text.compare(i, 3, "...") == 0) {
      if (text.find("...", i + 3) != std::string::npos) fail<ValueError>(kOp, "two ellipses in '{}'", text);
      for (int64_t k = rest; k-- > 0;) out.push_back(kEllipsis + static_cast<int>(k));
      i += 2;
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      out.push_back(c);
    } else {
      fail<ValueError>(kOp, "subscripts must be letters or '...', got '{}' in '{}'", text[i], text);
    }
  }
  return out;
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Term make_term(const std::string& text, const Shape& shape, size_t number) {
  const bool open = text.find("...") != std::string::npos;
  const auto named = static_cast<int64_t>(text.size()) - (open ? 3 : 0);
  const auto rank = static_cast<int64_t>(shape.size());
  if (named > rank || (!open && named < rank)) {
    fail<ValueError>(kOp, "'{}' names {} axes, operand {} has shape {}", text, named, number, shape);
  }
  return {parse_term(text, rank - named), shape};
}

void measure(Equation& e) {
  for (const Term& t : e.terms) {
    for (size_t i = 0; i < t.labels.size(); ++i) {
      int64_t& n = e.length.try_emplace(t.labels[i], 1).first->second;
      if (n != t.shape[i] && n != 1 && t.shape[i] != 1) {
        fail<ValueError>(kOp, "axis {} of shape {} does not broadcast to length {}", i, t.shape, n);
      }
      if (t.shape[i] != 1) n = t.shape[i];
    }
  }
}

// Without "->": the ellipsis, then the letters that occur once.
void default_output(Equation& e) {
  std::map<int, int> count;
  for (const Term& t : e.terms) {
    for (int l : t.labels) ++count[l];
  }
  std::string text;
  for (auto it = count.rbegin(); it != count.rend(); ++it) {
    if (it->first >= kEllipsis) e.out.push_back(it->first);
  }
  if (!e.out.empty()) text = "...";
  for (const auto& [label, n] : count) {
    if (label >= kEllipsis || n != 1) continue;
    e.out.push_back(label);
    text += static_cast<char>(label);
  }
  e.text += "->" + text;
}

Equation parse(const std::string& subscripts, std::span<const Array> operands) {
  Equation e;
  for (char c : subscripts) {
    if (c != ' ') e.text += c;
  }
  const size_t arrow = e.text.find("->");
  const std::vector<std::string> texts = split_at_commas(e.text.substr(0, arrow));
  if (texts.size() != operands.size()) {
    fail<ValueError>(kOp, "'{}' names {} operands, got {}", e.text, texts.size(), operands.size());
  }
  int64_t widest = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    e.terms.push_back(make_term(texts[i], operands[i].shape(), i));
    for (int l : e.terms.back().labels) widest = std::max<int64_t>(widest, l - kEllipsis + 1);
  }
  measure(e);
  if (arrow == std::string::npos) {
    default_output(e);
    return e;
  }
  e.out = parse_term(e.text.substr(arrow + 2), widest);
  for (size_t i = 0; i < e.out.size(); ++i) {
    if (std::count(e.out.begin(), e.out.end(), e.out[i]) > 1) {
      fail<ValueError>(kOp, "an output axis occurs twice in '{}'", e.text);
    }
    if (!e.length.count(e.out[i])) fail<ValueError>(kOp, "an output axis of '{}' is in no operand", e.text);
  }
  return e;
}

// ---- the order of contractions ----

double volume(const Equation& e, const Labels& labels) {
  double n = 1;
  for (int l : labels) n *= static_cast<double>(e.length.at(l));
  return n;
}

// The labels that the contraction of two terms keeps: the output's and those of the other terms.
Labels kept_labels(const Equation& e, const std::vector<Labels>& terms, size_t a, size_t b) {
  Labels both = terms[a], needed = e.out, kept;
  if (a != b) add_new(both, terms[b]);
  for (size_t i = 0; i < terms.size(); ++i) {
    if (i != a && i != b) add_new(needed, terms[i]);
  }
  for (int l : both) {
    if (holds(needed, l) && !holds(kept, l)) kept.push_back(l);
  }
  return kept;
}

struct Pair {
  size_t a = 0, b = 1;
  double saved = 0, cost = 0;
  bool outer = true;
};

// Greedy: the pair that shrinks the operands most, the cheaper of two; products without a common axis last.
Pair best_pair(const Equation& e, const std::vector<Labels>& terms) {
  Pair best;
  bool found = false;
  for (size_t a = 0; a < terms.size(); ++a) {
    for (size_t b = a + 1; b < terms.size(); ++b) {
      Labels all = terms[a];
      add_new(all, terms[b]);
      Pair p{a, b, 0, volume(e, all), true};
      for (int l : terms[a]) p.outer &= !holds(terms[b], l);
      p.saved = volume(e, terms[a]) + volume(e, terms[b]) - volume(e, kept_labels(e, terms, a, b));
      const bool better = p.outer != best.outer   ? !p.outer
                          : p.saved != best.saved ? p.saved > best.saved
                                                  : p.cost < best.cost;
      if (!found || better) best = p;
      found = true;
    }
  }
  return best;
}

// ---- contraction ----

Array diagonals(Array a, Labels& labels) {
  for (size_t i = 0; i < labels.size(); ++i) {
    for (size_t j = labels.size() - 1; j > i; --j) {
      if (labels[j] != labels[i]) continue;
      a = moveaxis(diagonal(a, 0, static_cast<int64_t>(i), static_cast<int64_t>(j)), -1,
                   static_cast<int64_t>(i));
      labels.erase(labels.begin() + static_cast<std::ptrdiff_t>(j));
    }
  }
  return a;
}

// Axes in the order of `wanted`; labels that are not there get length 1.
Array arranged(const Array& a, const Labels& labels, const Labels& wanted) {
  Axes perm, missing;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto at = std::find(labels.begin(), labels.end(), wanted[i]);
    if (at == labels.end()) {
      missing.push_back(static_cast<int64_t>(i));
    } else {
      perm.push_back(at - labels.begin());
    }
  }
  return expand_dims(transpose(a, perm), missing);
}

Array summed(const Array& a, Labels& labels, const Labels& keep) {
  Axes over;
  Labels left;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (holds(keep, labels[i])) {
      left.push_back(labels[i]);
    } else {
      over.push_back(static_cast<int64_t>(i));
    }
  }
  labels = left;
  return over.empty() ? a : sum(a, over);
}

Shape lengths_of(const Equation& e, const Labels& labels) {
  Shape s;
  for (int l : labels) s.push_back(e.length.at(l));
  return s;
}

// Sum of the products of two terms, with the labels in `keep` left; `labels` becomes the result's.
Array contracted(const Equation& e, Array a, Labels la, Array b, Labels lb, const Labels& keep,
                 Labels& labels) {
  Labels batch, inner, left, right, seen_a = keep, seen_b = keep;
  add_new(seen_a, lb);
  add_new(seen_b, la);
  a = summed(a, la, seen_a);
  b = summed(b, lb, seen_b);
  for (int l : la) (!holds(lb, l) ? left : holds(keep, l) ? batch : inner).push_back(l);
  for (int l : lb) {
    if (!holds(la, l)) right.push_back(l);
  }
  labels = batch;
  add_new(labels, left);
  add_new(labels, right);
  if (inner.empty()) return multiply(arranged(a, la, labels), arranged(b, lb, labels));
  auto matrices = [&](const Array& x, const Labels& lx, const Labels& rows, const Labels& columns) {
    Labels order = batch;
    add_new(order, rows);
    add_new(order, columns);
    Shape shape = lengths_of(e, batch);
    shape.push_back(num_elements(lengths_of(e, rows)));
    shape.push_back(num_elements(lengths_of(e, columns)));
    return reshape(broadcast_to(arranged(x, lx, order), lengths_of(e, order)), shape);
  };
  const Array product = matmul(matrices(a, la, left, inner), matrices(b, lb, inner, right));
  return reshape(product, lengths_of(e, labels));
}

}  // namespace

Array einsum(const std::string& subscripts, std::span<const Array> operands) {
  const Equation e = parse(subscripts, operands);
  std::vector<Array> arrays;
  std::vector<Labels> terms;
  for (size_t i = 0; i < operands.size(); ++i) {
    terms.push_back(e.terms[i].labels);
    arrays.push_back(diagonals(operands[i], terms.back()));
  }
  while (terms.size() > 1) {
    const Pair p = best_pair(e, terms);
    Labels labels;
    const Array joined = contracted(e, arrays[p.a], terms[p.a], arrays[p.b], terms[p.b],
                                    kept_labels(e, terms, p.a, p.b), labels);
    for (size_t i : {p.b, p.a}) {
      arrays.erase(arrays.begin() + static_cast<std::ptrdiff_t>(i));
      terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(i));
    }
    arrays.push_back(joined);
    terms.push_back(labels);
  }
  Array out = summed(arrays[0], terms[0], e.out);
  return broadcast_to(arranged(out, terms[0], e.out), lengths_of(e, e.out));
}

std::pair<std::vector<std::vector<int>>, std::string> einsum_path(const std::string& subscripts,
                                                                  std::span<const Array> operands) {
  const Equation e = parse(subscripts, operands);
  std::vector<Labels> terms;
  Labels all;
  for (const Term& t : e.terms) {
    terms.emplace_back();
    add_new(terms.back(), t.labels);
    add_new(all, t.labels);
  }
  const size_t count = terms.size();
  auto work = [&](const Labels& labels, size_t factors, bool sums) {
    return volume(e, labels) * static_cast<double>(std::max<size_t>(1, factors - 1) + (sums ? 1 : 0));
  };
  const double naive = work(all, count, all.size() > e.out.size());
  std::vector<std::vector<int>> path;
  double cost = 0;
  size_t scaling = 0;
  if (count == 1) {
    path.push_back({0});
    cost = naive;
    scaling = all.size();
  }
  while (terms.size() > 1) {
    const Pair p = best_pair(e, terms);
    Labels both = terms[p.a];
    add_new(both, terms[p.b]);
    const Labels kept = kept_labels(e, terms, p.a, p.b);
    cost += work(both, 2, both.size() > kept.size());
    scaling = std::max(scaling, both.size());
    path.push_back({static_cast<int>(p.a), static_cast<int>(p.b)});
    terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(p.b));
    terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(p.a));
    terms.push_back(kept);
  }
  return {path, fmt::format(
                    "  Complete contraction:  {}\n         Naive scaling:  {}\n     Optimized scaling:  {}\n"
                    "      Naive FLOP count:  {:.0f}\n  Optimized FLOP count:  {:.0f}\n",
                    e.text, all.size(), scaling, naive, cost)};
}

}  // namespace lamina
