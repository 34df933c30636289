// HelperEvents: the one thread of an engine's that hears what its helper processes say.
//
// Thread rule: every method from any thread.
// Invariant: a helper that says much holds up no other for longer than one message takes. After
// remove() a sink may still be at its last call, but gets no further one.
#ifndef RAMET_LIB_HELPER_EVENTS_H_
#define RAMET_LIB_HELPER_EVENTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/helper/wire/messages.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/jail.h"

namespace ramet::helper {

// Called on the events thread, which few system calls are allowed to, and which all helpers share.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_event(Event event) = 0;
  // The helper has closed its end, or said what no helper says. The last call.
  virtual void on_gone(const Status& why) = 0;
};

class HelperEvents {
 public:
  // `jail` outlives it.
  static StatusOr<std::unique_ptr<HelperEvents>> start(jail::Jail* jail);
  ~HelperEvents();

  // No sink is called any more when this returns; add() and remove() stay legal.
  void stop();

  StatusOr<uint64_t> add(UniqueFd socket, std::shared_ptr<EventSink> sink);
  void remove(uint64_t id);

 private:
  struct Source {
    UniqueFd socket;
    std::shared_ptr<EventSink> sink;
  };

  HelperEvents() = default;
  void body();
  void serve(uint64_t id, std::span<std::byte> room);
  std::shared_ptr<const Source> find(uint64_t id) const;

  UniqueFd epoll_;
  UniqueFd stop_;
  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<const Source>> sources_;
  std::unique_ptr<jail::JailedThread> thread_;  // last: it uses all of the above
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_EVENTS_H_
