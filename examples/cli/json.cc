#include "examples/cli/json.h"

#include <absl/strings/escaping.h>

#include "examples/cli/clocks.h"
#include "examples/cli/limits.h"

namespace cli {
namespace {

bool is_utf8(const std::string& bytes) {
  // The library's own judge, so that dumping cannot fail on what passed here.
  try {
    static_cast<void>(Json(bytes).dump());
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

Json clocks_json(const sandbox::ForkClocks& clocks) {
  Json out = Json::object();
  for (const Clock& clock : clock_list(clocks)) {
    const std::string key(clock.key);
    out[key] = nullptr;
    if (clock.value) {
      out[key] = clock.value->count();
    }
  }
  return out;
}

Json memory_json(const std::optional<sandbox::MemoryMetrics>& memory) {
  if (!memory) {
    return nullptr;
  }
  return {
      {"resident_bytes", memory->resident_bytes}, {"private_bytes", memory->private_bytes},
      {"shared_bytes", memory->shared_bytes},     {"page_table_bytes", memory->page_table_bytes},
      {"cow_faults", memory->cow_faults},         {"prefetched_pages", memory->prefetched_pages},
      {"prefetch_hits", memory->prefetch_hits},   {"prefetch_misses", memory->prefetch_misses}};
}

Json limit_json(const sandbox::LimitHit& hit) {
  return {{"which", limit_key(hit.which)}, {"allowed", hit.allowed}, {"used", hit.used}};
}

}  // namespace

std::string_view kvm_kind_name(sandbox::KvmKind kind) {
  switch (kind) {
    case sandbox::KvmKind::kHardware:
      return "hardware";
    case sandbox::KvmKind::kSoftware:
      return "software";
    case sandbox::KvmKind::kNone:
      break;
  }
  return "none";
}

std::string_view finding_level_name(sandbox::Finding::Level level) {
  switch (level) {
    case sandbox::Finding::Level::kOk:
      return "ok";
    case sandbox::Finding::Level::kWarning:
      return "warning";
    case sandbox::Finding::Level::kProblem:
      break;
  }
  return "problem";
}

void set_bytes(Json& object, const std::string& key, std::string_view bytes) {
  const std::string text(bytes);
  if (is_utf8(text)) {
    object[key] = text;
  } else {
    object[key + "_base64"] = absl::Base64Escape(text);
  }
}

std::string json_text(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json error_json(const ErrorText& error) {
  Json body = {{"code", error.code}, {"reason", error.reason}, {"message", error.message}};
  if (!error.hint.empty()) {
    body["hint"] = error.hint;
  }
  if (!error.console.empty()) {
    set_bytes(body, "console", error.console);
  }
  if (error.limit) {
    body["limit"] = limit_json(*error.limit);
  }
  if (error.retry_after) {
    body["retry_after_ms"] = error.retry_after->count();
  }
  return {{"error", body}};
}

Json host_json(const sandbox::HostReport& report) {
  Json capabilities = Json::array();
  for (const sandbox::Capability& capability : report.capabilities) {
    capabilities.push_back({{"name", capability.name},
                            {"present", capability.present},
                            {"required", capability.required},
                            {"needed_for", capability.needed_for}});
  }
  Json findings = Json::array();
  for (const sandbox::Finding& finding : report.findings) {
    findings.push_back({{"level", finding_level_name(finding.level)},
                        {"what", finding.what},
                        {"advice", finding.advice}});
  }
  Json policies = Json::array();
  for (const sandbox::ThreadPolicy& policy : report.thread_policies) {
    Json calls = Json::array();
    for (const sandbox::AllowedCall& call : policy.calls) {
      calls.push_back({{"syscall", call.syscall},
                       {"condition", call.condition},
                       {"needed_by", call.needed_by}});
    }
    policies.push_back(
        {{"kind", policy.kind}, {"distinct_calls", policy.distinct_calls}, {"calls", calls}});
  }
  return {{"ramet_version", report.ramet_version},
          {"thread_policies", policies},
          {"kernel_release", report.kernel_release},
          {"cpu_model", report.cpu_model},
          {"cores", report.cores},
          {"memory_bytes", report.memory_bytes},
          {"available_memory_bytes", report.available_memory_bytes},
          {"open_files_limit", report.open_files_limit},
          {"kvm", kvm_kind_name(report.kvm)},
          {"capabilities", capabilities},
          {"findings", findings}};
}

Json template_json(const std::string& name, const std::string& path,
                   const sandbox::TemplateInfo& info) {
  return {{"name", name},
          {"path", path},
          {"kernel_release", info.kernel_release},
          {"rootfs", info.rootfs},
          {"memory_bytes", info.memory_bytes},
          {"stored_memory_bytes", info.stored_memory_bytes},
          {"vcpus", info.vcpus},
          {"scratch_bytes", info.scratch_bytes},
          {"created_unix_seconds", info.created_unix_seconds}};
}

Json run_json(const sandbox::ExecResult& result, const sandbox::Metrics& metrics,
              const std::string& hostname) {
  Json out = {{"exit_code", result.exit_code},
              {"signal", result.signal},
              {"timed_out", result.timed_out},
              {"limit_hit", result.limit_hit ? limit_json(*result.limit_hit) : Json(nullptr)},
              {"wall_time_ns", result.wall_time.count()}};
  set_bytes(out, "stdout", result.stdout_data);
  set_bytes(out, "stderr", result.stderr_data);
  out["stdout_truncated"] = result.stdout_truncated;
  out["stderr_truncated"] = result.stderr_truncated;
  out["hostname"] = hostname;
  out["clocks"] = clocks_json(metrics.clocks);
  out["metrics"] = {{"vcpu_exits", metrics.vcpu_exits},
                    {"interrupts", metrics.interrupts},
                    {"cpu_time_ns", metrics.cpu_time.count()},
                    {"throttled", metrics.throttled},
                    {"throttled_time_ns", metrics.throttled_time.count()},
                    {"vsock_bytes_in", metrics.vsock_bytes_in},
                    {"vsock_bytes_out", metrics.vsock_bytes_out},
                    {"disk_bytes_read", metrics.disk_bytes_read},
                    {"disk_bytes_written", metrics.disk_bytes_written},
                    {"private_disk_bytes", metrics.private_disk_bytes},
                    {"memory", memory_json(metrics.memory)}};
  return out;
}

}  // namespace cli
