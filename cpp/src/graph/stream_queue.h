#pragma once

#include <functional>
#include <memory>

namespace lamina {

// Runs `work` in the order of the stream's submissions: here and now where the stream is idle and `async` is
// false, otherwise on the stream's thread. Waits for it to end unless `async`.
template <class F>
void submit(int stream, F work, bool async);

void submit_work(int stream, std::function<void()> work, bool async);

template <class F>
void submit(int stream, F work, bool async) {
  auto shared = std::make_shared<F>(std::move(work));
  submit_work(
      stream, [shared] { (*shared)(); }, async);
}

}  // namespace lamina
