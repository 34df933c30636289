// HelperLink: what one machine in another process tells, until the sandbox is gone.
//
// Thread rule: every method from any thread.
// Invariant: the listener is called at most once, and not after forget(). The console's listener is
// not called after close_console().
#ifndef RAMET_LIB_HELPER_LINK_H_
#define RAMET_LIB_HELPER_LINK_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "lib/helper/events.h"
#include "lib/helper/machine_home.h"
#include "lib/helper/socket_stream.h"
#include "lib/instance/console.h"
#include "vmm/base/log_sink.h"
#include "vmm/io/worker_pool.h"

namespace ramet::helper {

class HelperLink final : public EventSink, public std::enable_shared_from_this<HelperLink> {
 public:
  struct Parts {
    std::shared_ptr<MachineHome> home;
    std::shared_ptr<StreamGroup> streams;
    WorkerPool* calls = nullptr;
    WorkerPool* reaper = nullptr;
    LogSink* log = nullptr;
  };
  HelperLink(Parts parts, std::function<void(std::string_view)> console);

  void on_event(Event event) override;
  void on_gone(const Status& why) override;

  // Waits until the listener has been told of the end, so that who learned of it in another way
  // finds the reason there too. False where that did not come in time.
  bool wait_told(std::chrono::milliseconds limit);
  void on_end(std::function<void(const Status&)> function);
  void forget();
  void close_console();

  // The last that is known; true when nothing newer can come.
  bool last_metrics(InstanceMetrics* metrics) const;
  void note_metrics(const InstanceMetrics& metrics);

 private:
  void finish(const Status& why, const InstanceMetrics* metrics);

  const Parts parts_;
  mutable std::mutex mutex_;
  std::condition_variable told_changed_;
  bool told_ = false;
  std::optional<Status> end_;
  std::function<void(const Status&)> listener_;
  InstanceMetrics metrics_;
  std::mutex console_mutex_;
  std::unique_ptr<Console> console_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_LINK_H_
