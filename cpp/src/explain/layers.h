#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace lamina {

// A layered drawing of a graph without cycles: boxes in rows, edges pointing down.
struct Box {
  double width = 0, height = 0;
  enum class Row { kAny, kFirst, kLast } row = Row::kAny;
};
struct Point {
  double x = 0, y = 0;
};
struct Drawing {
  std::vector<Point> at;                   // top left corners, by box; boxes of a row begin at one height
  std::vector<double> row_end;             // below the row of a box
  std::vector<std::vector<Point>> routes;  // by edge: points that it passes between its two boxes
  Box size;
};
// Rows by longest path, sources as low as they can be unless they are held; boxes of a row ordered by the
// mean place of their neighbours, `gap` apart at least. Edges (from, to) name boxes, from above to; they may
// repeat.
Drawing draw_layers(const std::vector<Box>& boxes, const std::vector<std::pair<size_t, size_t>>& edges,
                    Box gap);

}  // namespace lamina
