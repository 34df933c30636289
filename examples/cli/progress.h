// Progress: shows what Template::build is at. On a terminal one line with a bar that is redrawn
// five times a second; elsewhere one plain line per step.
//
// Debian packages no C++ library for progress bars, so this is the smallest one that does.
//
// Thread rule: step() and finish() on one thread; clear() from any.
// Invariant: after finish() or clear() nothing of the bar is on the screen and nothing more is
// drawn.
#ifndef RAMET_EXAMPLES_CLI_PROGRESS_H_
#define RAMET_EXAMPLES_CLI_PROGRESS_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <ramet/options.h>

namespace cli {

// "[########------------] 2/5  boot  1.3 s"
std::string progress_line(const std::string& step, uint32_t done, uint32_t total,
                          std::chrono::nanoseconds elapsed);

class Progress {
 public:
  enum class Style : uint8_t { kNone, kLines, kBar };
  struct Step {
    std::string name;
    std::chrono::nanoseconds took;
  };

  explicit Progress(Style style);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const sandbox::BuildProgress& progress);
  // Ends the last step. The steps in order, with what each took.
  std::vector<Step> finish();
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  void redraw_until_stopped();
  void end_step();

  const Style style_;
  std::mutex mutex_;  // guards all below
  std::condition_variable wake_;
  bool stopped_ = false;
  std::string name_;  // of the step that runs; empty: none
  uint32_t done_ = 0;
  uint32_t total_ = 0;
  Clock::time_point step_began_;
  std::vector<Step> steps_;
  std::thread drawer_;  // joined by the destructor
};

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_PROGRESS_H_
