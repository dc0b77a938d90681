#include <map>
#include <unordered_map>

#include "core/fail.h"
#include "graph/node.h"
#include "lamina/export.h"
#include "ops/table.h"

namespace lamina {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

std::string graph_to_dot(const Arrays& outputs, const NamedArrays& names) {
  std::unordered_map<const Node*, std::string> given;
  for (const auto& [name, a] : names) given.emplace(a.node(), name);
  std::unordered_map<const Node*, size_t> number;
  std::vector<const Node*> stack, order;
  auto enter = [&](const Node* n) {
    if (number.try_emplace(n, number.size()).second) stack.push_back(n);
  };
  for (const Array& a : outputs) enter(a.node());
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    order.push_back(n);
    for (const Node* in : n->inputs) enter(in);
  }
  std::string out = "digraph {\n  rankdir=TB;\n  node [fontname=\"sans-serif\"];\n";
  for (const Node* n : order) {
    const bool source = n->inputs.empty();
    std::string label = given.count(n) ? given.at(n) + "\n" : "";
    if (!source) label += std::string(op_info(n->op).name) + "\n";
    const std::string params = n->params ? n->params->describe() : "";
    if (!params.empty()) label += params + "\n";
    label += fmt::format("{} {}", n->dtype, n->shape);
    // Graphviz wants a line break as the two characters \n.
    std::string text = quoted(label);
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.replace(at, 1, "\\n");
    out += fmt::format("  n{} [label={}, shape={}];\n", number[n], text, source ? "ellipse" : "box");
    for (const Node* in : n->inputs) out += fmt::format("  n{} -> n{};\n", number[in], number[n]);
  }
  return out + "}\n";
}

}  // namespace lamina
