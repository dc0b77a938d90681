#include <algorithm>
#include <cmath>
#include <map>

#include "core/fail.h"
#include "explain/layers.h"
#include "explain/words.h"

namespace lamina {
namespace {

using Value = Explanation::Value;
using Source = Explanation::Source;
using Kind = Explanation::Kind;

constexpr double kLetter = 6.7;  // width of a character: 11 pixels of a monospaced face
constexpr double kLine = 14;
constexpr double kPad = 8;
constexpr double kTitle = 18;  // over the ops of a tape
constexpr double kMargin = 14;
constexpr double kLegend = 30;
constexpr double kPort = 8;  // width of the place where an edge enters or leaves a tape
constexpr size_t kMostLetters = 44;

// Colours of a light card of its own, so that the drawing reads the same on dark pages.
struct Look {
  const char *fill, *line;
  bool dashed, pill;
};
constexpr Look kInput{"#d9f2dd", "#2e7d3c", false, true};
constexpr Look kConstant{"#eceff1", "#78909c", true, true};
constexpr Look kOp{"#ffffff", "#3f6fb5", false, false};
constexpr Look kKernel{"#ffe3c2", "#b8660b", false, false};
constexpr Look kView{"#fafafa", "#8a8a8a", true, false};

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      // XML has no control characters.
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// Letters of UTF-8 text; the bytes that continue one do not count.
size_t letters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text) {
  if (letters(text) <= kMostLetters) return text;
  size_t end = 0, count = 0;
  while (count < kMostLetters - 3) {
    ++end;
    while ((text[end] & 0xC0) == 0x80) ++end;
    ++count;
  }
  return text.substr(0, end) + "...";
}

double text_width(const std::string& text) { return kLetter * static_cast<double>(letters(text)); }

// Scalars stand in the labels of their consumers, and some views are looked through.
bool drawn(const Value& v) {
  if (v.source == Source::kComputed) return v.step >= 0;
  return v.source == Source::kInput || v.name.empty();
}

// A step, or an array that is there: ops with their places, and ports where edges cross a tape's border.
struct Block {
  std::vector<uint32_t> values;
  int step = -1;
  bool framed = false;
  std::map<uint32_t, size_t> box_of, entry, exit;  // by value: boxes of the inner drawing
  std::map<std::pair<size_t, size_t>, size_t> edge;
  Drawing inner;
  std::vector<Box> boxes;
  Box size;
  Point at;
};

class Painter {
 public:
  explicit Painter(const Explanation& e) : e_(e), block_of_(e.values.size(), 0), lines_(e.values.size()) {}

  std::string run() {
    for (uint32_t v = 0; v < e_.values.size(); ++v) label(v);
    make_blocks();
    for (Block& b : blocks_) arrange(b);
    arrange_all();
    paint();
    return header() + body_ + "</svg>\n";
  }

 private:
  void label(uint32_t i) {
    const Value& v = e_.values[i];
    std::vector<std::string>& lines = lines_[i];
    if (v.source == Source::kComputed) {
      std::string call = v.name.empty() ? v.op : v.name + ": " + v.op;
      const bool any = std::any_of(v.inputs.begin(), v.inputs.end(), [this](uint32_t in) {
        return e_.values[in].source == Source::kConstant && !drawn(e_.values[in]);
      });
      if (any) {
        call += '(';
        for (size_t k = 0; k < v.inputs.size(); ++k) {
          const Value& in = e_.values[v.inputs[k]];
          call += fmt::format("{}{}", k ? ", " : "", drawn(in) ? "\u00b7" : in.name);
        }
        call += ')';
      }
      lines.push_back(cut(call));
      if (!v.params.empty()) lines.push_back(cut(v.params));
    } else {
      lines.push_back(cut(v.source == Source::kInput ? v.name : "constant"));
    }
    lines.push_back(cut(type_of(v)));
  }

  Box box_for(uint32_t v) const {
    double width = 0;
    for (const std::string& line : lines_[v]) width = std::max(width, text_width(line));
    return {width + 2 * kPad, kLine * static_cast<double>(lines_[v].size()) + kPad, Box::Row::kAny};
  }

  void make_blocks() {
    for (size_t s = 0; s < e_.steps.size(); ++s) {
      Block b;
      b.values = e_.steps[s].values;
      b.step = static_cast<int>(s);
      b.framed = e_.steps[s].kind == Kind::kTape || e_.steps[s].kind == Kind::kWithEpilogue;
      blocks_.push_back(std::move(b));
    }
    for (uint32_t v = 0; v < e_.values.size(); ++v) {
      if (e_.values[v].source == Source::kComputed || !drawn(e_.values[v])) continue;
      Block b;
      b.values = {v};
      blocks_.push_back(std::move(b));
    }
    for (size_t i = 0; i < blocks_.size(); ++i) {
      for (uint32_t v : blocks_[i].values) block_of_[v] = i;
    }
  }

  // Calls f(producer, consumer) for every drawn edge.
  template <class F>
  void each_edge(F f) const {
    for (uint32_t c = 0; c < e_.values.size(); ++c) {
      if (!drawn(e_.values[c])) continue;
      std::vector<uint32_t> inputs = e_.values[c].inputs;
      std::sort(inputs.begin(), inputs.end());
      inputs.erase(std::unique(inputs.begin(), inputs.end()), inputs.end());
      for (uint32_t p : inputs) {
        if (drawn(e_.values[p])) f(p, c);
      }
    }
  }

  void arrange(Block& b) {
    std::vector<std::pair<size_t, size_t>> edges;
    auto port = [&](std::map<uint32_t, size_t>& ports, uint32_t v, Box::Row row) {
      const auto [it, fresh] = ports.try_emplace(v, b.boxes.size());
      if (fresh) b.boxes.push_back({kPort, 0, row});
      return it->second;
    };
    auto connect = [&](size_t from, size_t to) {
      if (b.edge.try_emplace({from, to}, edges.size()).second) edges.emplace_back(from, to);
    };
    for (uint32_t v : b.values) {
      b.box_of.emplace(v, b.boxes.size());
      b.boxes.push_back(box_for(v));
    }
    if (b.framed) {
      const size_t self = block_of_[b.values[0]];
      for (uint32_t c : b.values) {
        for (uint32_t p : e_.values[c].inputs) {
          if (!drawn(e_.values[p])) continue;
          const bool inside = block_of_[p] == self;
          connect(inside ? b.box_of.at(p) : port(b.entry, p, Box::Row::kFirst), b.box_of.at(c));
        }
      }
      for (uint32_t v : e_.steps[static_cast<size_t>(b.step)].writes) {
        connect(b.box_of.at(v), port(b.exit, v, Box::Row::kLast));
      }
    }
    b.inner = draw_layers(b.boxes, edges, {14, 18, Box::Row::kAny});
    b.size = b.inner.size;
    if (!b.framed) return;
    b.size.width = std::max(b.size.width, text_width(title(b))) + 2 * kPad;
    b.size.height += kTitle + kPad;
  }

  std::string title(const Block& b) const {
    const Explanation::Step& s = e_.steps[static_cast<size_t>(b.step)];
    return fmt::format("step {}: {}, {} read, {} written", b.step + 1, word_of(s.kind),
                       in_bytes(s.bytes_read), in_bytes(s.bytes_written));
  }

  void arrange_all() {
    std::vector<std::pair<size_t, size_t>> edges;
    each_edge([&](uint32_t p, uint32_t c) {
      const std::pair<size_t, size_t> e{block_of_[p], block_of_[c]};
      if (e.first != e.second && outer_edge_.try_emplace(e, edges.size()).second) edges.push_back(e);
    });
    std::vector<Box> boxes;
    for (const Block& b : blocks_) boxes.push_back(b.size);
    outer_ = draw_layers(boxes, edges, {26, 34, Box::Row::kAny});
    for (size_t i = 0; i < blocks_.size(); ++i) {
      blocks_[i].at = {outer_.at[i].x + kMargin, outer_.at[i].y + kMargin + kLegend};
    }
  }

  // Where the inner drawing of a block begins.
  Point origin(const Block& b) const {
    if (!b.framed) return b.at;
    return {b.at.x + (b.size.width - b.inner.size.width) / 2, b.at.y + kTitle};
  }
  Point corner(const Block& b, size_t box) const {
    const Point o = origin(b), at = b.inner.at[box];
    return {o.x + at.x, o.y + at.y};
  }
  Point middle(const Block& b, size_t box, bool bottom) const {
    const Point p = corner(b, box);
    return {p.x + b.boxes[box].width / 2, p.y + (bottom ? b.boxes[box].height : 0)};
  }

  void inner_route(const Block& b, size_t from, size_t to, std::vector<Point>& out) const {
    const Point o = origin(b);
    out.push_back({out.back().x, o.y + b.inner.row_end[from]});
    for (const Point& p : b.inner.routes[b.edge.at({from, to})]) out.push_back({o.x + p.x, o.y + p.y});
  }

  std::vector<Point> route(uint32_t p, uint32_t c) const {
    const Block &from = blocks_[block_of_[p]], &to = blocks_[block_of_[c]];
    const size_t start = from.box_of.at(p), end = to.box_of.at(c);
    std::vector<Point> out{middle(from, start, true)};
    if (&from == &to) {
      inner_route(from, start, end, out);
    } else {
      if (const auto it = from.exit.find(p); it != from.exit.end()) {
        inner_route(from, start, it->second, out);
        out.push_back(middle(from, it->second, true));
      }
      out.push_back({out.back().x, outer_.row_end[block_of_[p]] + kMargin + kLegend});
      for (const Point& q : outer_.routes[outer_edge_.at({block_of_[p], block_of_[c]})]) {
        out.push_back({q.x + kMargin, q.y + kMargin + kLegend});
      }
      if (const auto it = to.entry.find(p); it != to.entry.end()) {
        out.push_back({middle(to, it->second, false).x, to.at.y});
        out.push_back(middle(to, it->second, false));
        inner_route(to, it->second, end, out);
      }
    }
    out.push_back(middle(to, end, false));
    return out;
  }

  void paint() {
    for (const Block& b : blocks_) {
      if (b.framed) paint_frame(b);
    }
    each_edge([this](uint32_t p, uint32_t c) { paint_edge(p, c); });
    for (const Block& b : blocks_) {
      if (b.framed) paint_title(b);
    }
    for (uint32_t v = 0; v < e_.values.size(); ++v) {
      if (drawn(e_.values[v])) paint_value(v);
    }
  }

  void paint_frame(const Block& b) {
    body_ += fmt::format(
        "<g data-region=\"{}\"><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"10\" "
        "fill=\"#dbe7f8\" stroke=\"#3f6fb5\"/></g>\n",
        b.step + 1, b.at.x, b.at.y, b.size.width, b.size.height);
  }

  // Over the edges, which stop short of its letters.
  void paint_title(const Block& b) {
    body_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"#27508a\" stroke=\"#dbe7f8\" stroke-width=\"5\" "
        "paint-order=\"stroke\">{}</text>\n",
        b.at.x + kPad, b.at.y + 13, escaped(title(b)));
  }

  void paint_edge(uint32_t p, uint32_t c) {
    const std::vector<Point> points = route(p, c);
    std::string path = fmt::format("M{:.1f} {:.1f}", points[0].x, points[0].y);
    for (size_t i = 1; i < points.size(); ++i) {
      const Point &a = points[i - 1], &b = points[i];
      if (std::abs(a.x - b.x) < 0.05) {
        path += fmt::format("L{:.1f} {:.1f}", b.x, b.y);
      } else {
        const double half = (a.y + b.y) / 2;
        path += fmt::format("C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}", a.x, half, b.x, half, b.x, b.y);
      }
    }
    body_ += fmt::format(
        "<path data-edge=\"{} {}\" d=\"{}\" fill=\"none\" stroke=\"#546070\" "
        "marker-end=\"url(#lamina-tip)\"/>\n",
        p, c, path);
  }

  const Look& look_of(const Value& v) const {
    if (v.source == Source::kInput) return kInput;
    if (v.source == Source::kConstant) return kConstant;
    switch (e_.steps[static_cast<size_t>(v.step)].kind) {
      case Kind::kTape: return kOp;
      case Kind::kKernel: return kKernel;
      case Kind::kWithEpilogue:
        return &v == &e_.values[e_.steps[static_cast<size_t>(v.step)].values[0]] ? kKernel : kOp;
      default: return kView;
    }
  }

  static std::string shape_text(const Look& look, Point at, Box size, bool result) {
    return fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{:.0f}\" fill=\"{}\" "
        "stroke=\"{}\" stroke-width=\"{}\"{}/>",
        at.x, at.y, size.width, size.height, look.pill ? size.height / 2 : 4, look.fill,
        result ? "#111111" : look.line, result ? "2.5" : "1", look.dashed ? " stroke-dasharray=\"4 2\"" : "");
  }

  void paint_value(uint32_t i) {
    const Value& v = e_.values[i];
    const Block& b = blocks_[block_of_[i]];
    const size_t box = b.box_of.at(i);
    const Point at = corner(b, box);
    const Box& size = b.boxes[box];
    body_ += fmt::format("<g data-value=\"{}\" data-source=\"{}\"{}><title>{}</title>", i, word_of(v.source),
                         v.result ? " data-result=\"1\"" : "", escaped(tip(i)));
    body_ += shape_text(look_of(v), at, size, v.result);
    double y = at.y + kLine - 1;
    for (size_t k = 0; k < lines_[i].size(); ++k, y += kLine) {
      body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\"{}>{}</text>",
                           at.x + size.width / 2, y, k == 0 ? " font-weight=\"bold\"" : " fill=\"#444444\"",
                           escaped(lines_[i][k]));
    }
    body_ += "</g>\n";
  }

  // What a browser shows over a value.
  std::string tip(uint32_t i) const {
    const Value& v = e_.values[i];
    std::string text = fmt::format("{} {} {}", reference(e_, i), v.op, type_of(v));
    if (!v.params.empty()) text += "; " + v.params;
    for (const Explanation::Unfused& u : e_.unfused) {
      if (u.producer == i)
        text += fmt::format("; not fused with {}: {}", reference(e_, u.consumer), u.reason);
    }
    return text;
  }

  std::string header() const {
    struct Sample {
      const Look& look;
      const char* text;
      bool result;
    };
    const Sample samples[] = {{kInput, "input", false}, {kConstant, "constant", false},
                              {kOp, "fused op", false}, {kKernel, "kernel", false},
                              {kView, "view", false},   {kOp, "result", true}};
    std::string legend;
    double x = kMargin;
    for (const Sample& s : samples) {
      legend += shape_text(s.look, {x, kMargin}, {18, 12, Box::Row::kAny}, s.result);
      legend += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", x + 23, kMargin + 10, s.text);
      x += 23 + text_width(s.text) + 16;
    }
    const double width = std::max(outer_.size.width + 2 * kMargin, x);
    const double height = outer_.size.height + 2 * kMargin + kLegend;
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 "
        "{0:.0f} "
        "{1:.0f}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"11\" "
        "fill=\"#111111\">\n<defs><marker id=\"lamina-tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" "
        "markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" "
        "fill=\"#546070\"/></marker></defs>\n<rect width=\"{0:.0f}\" height=\"{1:.0f}\" rx=\"8\" "
        "fill=\"#ffffff\"/>\n<g data-legend=\"1\">{2}</g>\n",
        std::ceil(width), std::ceil(height), legend);
  }

  const Explanation& e_;
  std::vector<Block> blocks_;
  std::vector<size_t> block_of_;
  std::vector<std::vector<std::string>> lines_;
  std::map<std::pair<size_t, size_t>, size_t> outer_edge_;
  Drawing outer_;
  std::string body_;
};

}  // namespace

std::string to_svg(const Explanation& e) { return Painter(e).run(); }

}  // namespace lamina
