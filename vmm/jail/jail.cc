#include "vmm/jail/jail.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <utility>

#include <absl/strings/str_cat.h>

#include "vmm/jail/syscall_name.h"
#include "vmm/jail/warm_up.h"

namespace ramet::jail {
namespace {

size_t index_of(ThreadKind kind) { return static_cast<size_t>(kind); }

Policy waiting_rows(const Policy& policy) {
  Policy rows;
  std::ranges::copy_if(policy, std::back_inserter(rows), is_uncounted);
  return rows;
}

}  // namespace

// One thread of the kernel's: runs bodies one after the other until told to end.
class Jail::Cell {
 public:
  // With a filter the new thread installs it before anything else, and then does nothing but wait
  // until the first body comes: until somebody listens, only what the filter allows can be called.
  static StatusOr<std::unique_ptr<Cell>> make(std::optional<ThreadKind> kind,
                                              const std::string& name, StackPool::Stack stack,
                                              const Filter* filter,
                                              std::atomic<bool>* allocator_is_warm = nullptr);
  ~Cell();

  // What Filter::install() gave; once.
  UniqueFd take_listener() { return std::move(listener_); }
  // To be run when the thread has ended.
  void at_end(std::function<void()> forget) { forget_ = std::move(forget); }

  void start(Body body);
  void wait_done();
  Status signal(int signal) const { return thread_->signal(signal); }
  StatusOr<uint64_t> cpu_ns() const { return thread_->cpu_ns(); }

  std::optional<ThreadKind> kind() const { return kind_; }
  const std::shared_ptr<TenantSlot>& slot() const { return slot_; }

 private:
  Cell(std::optional<ThreadKind> kind, StackPool::Stack stack)
      : kind_(kind), stack_(std::move(stack)) {}
  void main(const Filter* filter, std::atomic<bool>* allocator_is_warm);
  void install(const Filter* filter, std::atomic<bool>* allocator_is_warm);

  const std::optional<ThreadKind> kind_;
  const StackPool::Stack stack_;
  const std::shared_ptr<TenantSlot> slot_ = std::make_shared<TenantSlot>();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  Status installed_;
  UniqueFd listener_;
  std::function<void()> forget_;
  Body body_;
  bool busy_ = false;
  bool ending_ = false;
  std::unique_ptr<Thread> thread_;  // last: it uses all of the above
};

StatusOr<std::unique_ptr<Jail::Cell>> Jail::Cell::make(std::optional<ThreadKind> kind,
                                                       const std::string& name,
                                                       StackPool::Stack stack, const Filter* filter,
                                                       std::atomic<bool>* allocator_is_warm) {
  std::unique_ptr<Cell> cell(new Cell(kind, std::move(stack)));
  RAMET_ASSIGN_OR_RETURN(cell->thread_, Thread::start(
                                            name,
                                            [self = cell.get(), filter, allocator_is_warm] {
                                              self->main(filter, allocator_is_warm);
                                            },
                                            cell->stack_.bytes()));
  std::unique_lock lock(cell->mutex_);
  cell->changed_.wait(lock, [&] { return cell->ready_; });
  lock.unlock();
  RAMET_RETURN_IF_ERROR(cell->installed_);
  return cell;
}

Jail::Cell::~Cell() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (thread_ != nullptr) {
    thread_->join();
  }
  if (forget_) {
    forget_();
  }
}

void Jail::Cell::install(const Filter* filter, std::atomic<bool>* allocator_is_warm) {
  if (filter != nullptr) {
    if (*allocator_is_warm) {
      make_allocator_room();
    } else if (warm_up_allocator()) {
      *allocator_is_warm = true;
    }
    auto listener = filter->install();
    installed_ = listener.status();
    if (listener.ok()) {
      listener_ = *std::move(listener);
    }
  }
  const std::lock_guard lock(mutex_);
  ready_ = true;
  changed_.notify_all();
}

void Jail::Cell::main(const Filter* filter, std::atomic<bool>* allocator_is_warm) {
  install(filter, allocator_is_warm);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || busy_; });
    if (!busy_) {
      return;
    }
    Body body = std::move(body_);
    lock.unlock();
    body(*slot_);
    body = nullptr;  // what it owns goes before it counts as done
    slot_->set(nullptr);
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void Jail::Cell::start(Body body) {
  const std::lock_guard lock(mutex_);
  body_ = std::move(body);
  busy_ = true;
  changed_.notify_all();
}

void Jail::Cell::wait_done() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !busy_; });
}

Jail::Jail(JailOptions options) : options_(std::move(options)) {}

StatusOr<std::unique_ptr<Jail>> Jail::create(JailOptions options) {
  options.facts.pid = ::getpid();
  std::unique_ptr<Jail> jail(new Jail(std::move(options)));
  RAMET_RETURN_IF_ERROR(jail->prepare());
  jail->start_maker();
  return jail;
}

Status Jail::prepare() {
  report_.mode = options_.mode;
  for (const ThreadKind kind : kThreadKinds) {
    policies_[index_of(kind)] = policy_of(kind, options_.facts);
    row_uses_[index_of(kind)].resize(policies_[index_of(kind)].size());
  }
  if (options_.mode == Mode::kOff) {
    return Status();
  }
  if (options_.mode == Mode::kKill) {
    return prepare_to_kill();
  }
  for (const Policy& policy : policies_) {
    RAMET_ASSIGN_OR_RETURN(
        auto filter, Filter::compile(options_.mode == Mode::kRecord ? waiting_rows(policy) : policy,
                                     Refusal::kNotify));
    filters_.push_back(std::move(filter));
    RAMET_ASSIGN_OR_RETURN(auto silent, Filter::compile(policy, Refusal::kErrno));
    silent_filters_.push_back(std::move(silent));
  }
  auto supervisor = Supervisor::start();
  if (supervisor.ok()) {
    supervisor_ = *std::move(supervisor);
  } else {
    RAMET_RETURN_IF_ERROR(weaken(report(), supervisor.status()));
  }
  // What this host grants shows now, and not at the first fork.
  RAMET_ASSIGN_OR_RETURN(auto first, run(ThreadKind::kReaper, [](TenantSlot&) {}));
  first->join();
  return Status();
}

void Jail::start_maker() {
  if (std::min(options_.spare, options_.max_idle) == 0) {
    return;
  }
  // Without one, whoever wants a thread makes it.
  if (auto maker = Thread::start("ramet-threads", [this] { make_spare(); }); maker.ok()) {
    maker_ = *std::move(maker);
  }
}

Status Jail::prepare_to_kill() {
  for (const Policy& policy : policies_) {
    RAMET_ASSIGN_OR_RETURN(auto filter, Filter::compile(policy, Refusal::kKill));
    filters_.push_back(std::move(filter));
  }
  return Status();
}

Status Jail::bind_this_thread(ThreadKind kind) const {
  return filters_.at(index_of(kind)).install().status();
}

Jail::~Jail() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    spare_changed_.notify_all();
  }
  maker_.reset();
  // Before the supervisor: a thread that ends still makes calls.
  for (Cells& cells : idle_) {
    cells.clear();
  }
}

JailReport Jail::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

std::vector<uint64_t> Jail::row_uses(ThreadKind kind) const {
  const std::lock_guard lock(uses_mutex_);
  return row_uses_[index_of(kind)];
}

size_t Jail::idle() const {
  const std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const Cells& cells : idle_) {
    count += cells.size();
  }
  return count;
}

size_t Jail::give_up_idle() {
  std::array<Cells, kKinds> ending;
  {
    const std::lock_guard lock(mutex_);
    ending.swap(idle_);
    wants_spare_ = false;
    spare_changed_.notify_all();
  }
  size_t count = 0;
  for (Cells& cells : ending) {
    count += cells.size();
    cells.clear();
  }
  stacks_.trim();
  return count;
}

StatusOr<std::unique_ptr<JailedThread>> Jail::run(ThreadKind kind, Body body) {
  std::unique_ptr<Cell> cell = take_idle(kind);
  if (cell == nullptr && kind == ThreadKind::kVcpu && is_in_background()) {
    RAMET_ASSIGN_OR_RETURN(cell, take_spare());
  }
  while (cell == nullptr) {
    const JailReport tried = report();
    auto made = make_cell(kind, tried);
    if (made.ok()) {
      cell = *std::move(made);
    } else {
      RAMET_RETURN_IF_ERROR(weaken(tried, made.status()));
    }
  }
  cell->start(std::move(body));
  if (kind == ThreadKind::kVcpu) {
    want_spare();
  }
  return std::make_unique<JailedThread>(this, std::move(cell));
}

void Jail::want_spare() {
  const size_t wanted = std::min(options_.spare, options_.max_idle);
  const std::lock_guard lock(mutex_);
  if (idle_[index_of(ThreadKind::kVcpu)].size() >= wanted) {
    return;
  }
  wants_spare_ = true;
  spare_changed_.notify_all();
}

bool Jail::is_in_background() const { return Thread::niceness() > niceness_; }

StatusOr<std::unique_ptr<Jail::Cell>> Jail::take_spare() {
  Cells& cells = idle_[index_of(ThreadKind::kVcpu)];
  std::unique_lock lock(mutex_);
  while (maker_ != nullptr && cells.empty()) {
    spare_failed_ = Status();
    wants_spare_ = true;
    spare_changed_.notify_all();
    spare_changed_.wait(lock, [&] { return !cells.empty() || !wants_spare_; });
    RAMET_RETURN_IF_ERROR(spare_failed_);
  }
  if (cells.empty()) {
    return nullptr;
  }
  std::unique_ptr<Cell> cell = std::move(cells.back());
  cells.pop_back();
  return cell;
}

void Jail::make_spare() {
  const size_t wanted = std::min(options_.spare, options_.max_idle);
  Cells& cells = idle_[index_of(ThreadKind::kVcpu)];
  const auto has_work = [&] { return closing_ || (wants_spare_ && cells.size() < wanted); };
  std::unique_lock lock(mutex_);
  for (spare_changed_.wait(lock, has_work); !closing_; spare_changed_.wait(lock, has_work)) {
    const JailReport how = report_;
    lock.unlock();
    auto made = make_cell(ThreadKind::kVcpu, how);
    lock.lock();
    if (!made.ok()) {
      wants_spare_ = false;
      spare_failed_ = made.status();
      spare_changed_.notify_all();
    } else if (wants_spare_) {
      cells.push_back(*std::move(made));
      spare_changed_.notify_all();
    } else {
      lock.unlock();
      *made = nullptr;  // idle threads were given up meanwhile
      lock.lock();
    }
  }
}

StatusOr<std::unique_ptr<JailedThread>> Jail::run_unconfined(const std::string& name, Body body) {
  RAMET_ASSIGN_OR_RETURN(auto stack, stacks_.take());
  RAMET_ASSIGN_OR_RETURN(auto cell, Cell::make(std::nullopt, name, std::move(stack), nullptr));
  cell->start(std::move(body));
  return std::make_unique<JailedThread>(this, std::move(cell));
}

std::unique_ptr<Jail::Cell> Jail::take_idle(ThreadKind kind) {
  const std::lock_guard lock(mutex_);
  Cells& cells = idle_[index_of(kind)];
  if (cells.empty()) {
    return nullptr;
  }
  std::unique_ptr<Cell> cell = std::move(cells.back());
  cells.pop_back();
  return cell;
}

void Jail::give_back(std::unique_ptr<Cell> cell) {
  if (!cell->kind() || cell->slot()->was_refused()) {
    return;
  }
  const std::lock_guard lock(mutex_);
  Cells& cells = idle_[index_of(*cell->kind())];
  if (cells.size() < options_.max_idle) {
    cells.push_back(std::move(cell));
  }
}

StatusOr<std::unique_ptr<Jail::Cell>> Jail::make_cell(ThreadKind kind, const JailReport& how) {
  const std::string name = absl::StrCat("ramet-", std::string(name_of(kind)));
  RAMET_ASSIGN_OR_RETURN(auto stack, stacks_.take());
  if (how.mode == Mode::kOff) {
    return Cell::make(kind, name, std::move(stack), nullptr);
  }
  const auto& filters = how.counted ? filters_ : silent_filters_;
  RAMET_ASSIGN_OR_RETURN(auto cell, Cell::make(kind, name, std::move(stack),
                                               &filters[index_of(kind)], &allocator_is_warm_));
  if (UniqueFd listener = cell->take_listener(); listener.valid()) {
    RAMET_ASSIGN_OR_RETURN(const uint64_t id,
                           supervisor_->add(std::move(listener), [this, kind, slot = cell->slot()](
                                                                     const HeldCall& call) {
                             return judge(kind, call, slot.get());
                           }));
    cell->at_end([supervisor = supervisor_.get(), id] { supervisor->remove(id); });
  }
  return cell;
}

// From what was tried to the next weaker thing that this host may grant; `why` where there is none.
Status Jail::weaken(const JailReport& tried, Status why) {
  // Only what the host does not grant: a want of memory or threads is an error of its own.
  if (!absl::IsFailedPrecondition(why) && !absl::IsUnimplemented(why)) {
    return why;
  }
  if (options_.required || options_.mode == Mode::kRecord || options_.mode == Mode::kKill) {
    return absl::FailedPreconditionError(
        absl::StrCat("confinement of threads is required: ", why.message()));
  }
  const std::lock_guard lock(mutex_);
  if (report_.mode != tried.mode || report_.counted != tried.counted) {
    return Status();  // another thread found the same out
  }
  report_.why = std::string(why.message());
  // First the same filters without a listener, which need nobody; they cannot let a call through.
  if (report_.counted && options_.mode == Mode::kEnforce) {
    report_.counted = false;
  } else {
    report_.mode = Mode::kOff;
  }
  return Status();
}

Verdict Jail::judge(ThreadKind kind, const HeldCall& held, TenantSlot* slot) {
  const RefusedCall call = describe(kind, held);
  if (const auto row = match(policy(kind), call.syscall, call.arguments)) {
    const std::lock_guard lock(uses_mutex_);
    ++row_uses_[index_of(kind)][*row];
    return {.allow = true};
  }
  refused_.fetch_add(1, std::memory_order_relaxed);
  const bool allow = options_.mode == Mode::kLog;
  if (!allow) {
    slot->mark_refused();
  }
  // Whom it works for is asked now, while it is held.
  return {.allow = allow, .then = [this, call, allow, tenant = slot->get()] {
            if (options_.on_refused) {
              options_.on_refused(call, allow);
            }
            if (tenant != nullptr && !allow) {
              tenant->tell(call);
            }
          }};
}

JailedThread::JailedThread(Jail* jail, std::unique_ptr<Jail::Cell> cell)
    : jail_(*jail), cell_(std::move(cell)) {}

JailedThread::~JailedThread() { join(); }

void JailedThread::join() {
  if (cell_ != nullptr) {
    cell_->wait_done();
    jail_.give_back(std::move(cell_));
  }
}

Status JailedThread::signal(int signal) const {
  if (cell_ == nullptr) {
    return absl::FailedPreconditionError("signal to a thread that was joined");
  }
  return cell_->signal(signal);
}

StatusOr<uint64_t> JailedThread::cpu_ns() const {
  if (cell_ == nullptr) {
    return absl::FailedPreconditionError("the clock of a thread that was joined");
  }
  return cell_->cpu_ns();
}

bool JailedThread::was_refused() const { return cell_ != nullptr && cell_->slot()->was_refused(); }

}  // namespace ramet::jail
