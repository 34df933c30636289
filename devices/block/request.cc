#include "devices/block/request.h"

#include <algorithm>
#include <optional>

#include <absl/strings/str_format.h>

#include "vmm/base/checked.h"

namespace ramet::block {
namespace {

using virtio::Reader;
using virtio::Slices;
using virtio::Writer;

// The bytes of [sector, sector + bytes / 512), when they are whole sectors of the disk.
std::optional<ByteRange> range_on_disk(uint64_t sector, uint64_t bytes, const DiskView& disk) {
  const auto offset = checked_mul<uint64_t>(sector, kSectorBytes);
  if (!offset || bytes % kSectorBytes != 0) {
    return std::nullopt;
  }
  const auto end = checked_add(*offset, bytes);
  if (!end || *end > disk.size_bytes) {
    return std::nullopt;
  }
  return ByteRange{*offset, bytes};
}

// 5.2.4: seg_max and size_max bind the data buffers.
bool segments_fit(const Slices& slices) {
  return slices.size() <= kMaxSegments &&
         std::all_of(slices.begin(), slices.end(),
                     [](const GuestSlice& slice) { return slice.size <= kMaxSegmentBytes; });
}

RequestStatus parse_transfer(Request* request, uint64_t sector, const DiskView& disk) {
  const bool in = request->type == kTypeIn;
  const uint64_t bytes = in ? request->to_driver.remaining() : request->from_driver.remaining();
  const uint64_t wrong_way = in ? request->from_driver.remaining() : request->to_driver.remaining();
  const auto range = range_on_disk(sector, bytes, disk);
  const bool fits =
      segments_fit(in ? request->to_driver.peek(bytes) : request->from_driver.peek(bytes));
  if (!range || !fits || wrong_way != 0 || (!in && disk.read_only)) {
    return RequestStatus::kIoError;
  }
  request->range = *range;
  return RequestStatus::kOk;
}

// 5.2.6.2: each range within the disk and max_*_sectors; unknown flags, and UNMAP in a discard, are
// not supported.
RequestStatus parse_ranges(Request* request, const DiskView& disk) {
  const uint64_t count = request->from_driver.remaining() / sizeof(RangeSegment);
  const bool whole = request->from_driver.remaining() % sizeof(RangeSegment) == 0;
  if (disk.read_only || !whole || count == 0 || count > kMaxRangeSegments) {
    return RequestStatus::kIoError;
  }
  const uint32_t known = request->type == kTypeWriteZeroes ? kRangeUnmap : 0;
  for (uint64_t i = 0; i < count; ++i) {
    const auto segment = request->from_driver.read_object<RangeSegment>();
    if (!segment.ok()) {
      return RequestStatus::kIoError;
    }
    if ((segment->flags & ~known) != 0) {
      return RequestStatus::kUnsupported;
    }
    const auto range = range_on_disk(segment->sector, segment->sectors * kSectorBytes, disk);
    if (!range || segment->sectors > kMaxRangeSectors) {
      return RequestStatus::kIoError;
    }
    request->ranges.push_back(*range);
  }
  return RequestStatus::kOk;
}

RequestStatus parse_body(Request* request, uint64_t sector, const DiskView& disk) {
  switch (request->type) {
    case kTypeIn:
    case kTypeOut:
      return parse_transfer(request, sector, disk);
    case kTypeDiscard:
    case kTypeWriteZeroes:
      return parse_ranges(request, disk);
    case kTypeFlush:
    case kTypeGetId:
      return RequestStatus::kOk;
    default:
      return RequestStatus::kUnsupported;  // 5.2.6.2
  }
}

Status run(Request* request, const ExecuteContext& context) {
  BlockMetrics& metrics = *context.metrics;
  switch (request->type) {
    case kTypeIn:
      ++metrics.reads;
      RAMET_RETURN_IF_ERROR(
          context.backend->read(request->range.offset, request->range.bytes, &request->to_driver));
      metrics.read_bytes += request->range.bytes;
      return Status();
    case kTypeOut:
      ++metrics.writes;
      RAMET_RETURN_IF_ERROR(context.backend->write(request->range.offset, request->range.bytes,
                                                   &request->from_driver));
      metrics.written_bytes += request->range.bytes;
      return Status();
    case kTypeFlush:
      ++metrics.flushes;
      return context.backend->flush();
    case kTypeGetId: {
      ++metrics.other;
      const uint64_t bytes = std::min<uint64_t>(kIdBytes, request->to_driver.remaining());
      return request->to_driver.write(std::span(*context.id).first(static_cast<size_t>(bytes)));
    }
    default:
      ++metrics.other;
      for (const ByteRange& range : request->ranges) {
        RAMET_RETURN_IF_ERROR(request->type == kTypeDiscard
                                  ? context.backend->discard(range.offset, range.bytes)
                                  : context.backend->write_zeroes(range.offset, range.bytes));
      }
      return Status();
  }
}

void count_failure(const Status& status, BlockMetrics* metrics) {
  ++(absl::IsResourceExhausted(status) ? metrics->out_of_space : metrics->io_errors);
}

}  // namespace

StatusOr<Request> parse_request(const virtio::Chain& chain, const DiskView& disk) {
  if (chain.writable_bytes() == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("block request %d: %d readable bytes and none to write the status to",
                        chain.head(), chain.readable_bytes()));
  }
  Reader reader = chain.reader();
  Writer writer = chain.writer();
  RAMET_ASSIGN_OR_RETURN(Writer to_driver, writer.take(chain.writable_bytes() - 1));
  const auto header = reader.read_object<RequestHeader>();
  Request request{0,
                  RequestStatus::kIoError,
                  {},
                  {},
                  std::move(reader),
                  std::move(to_driver),
                  std::move(writer),
                  chain.head()};
  if (header.ok()) {
    request.type = header->type;
    request.verdict = parse_body(&request, header->sector, disk);
  }
  return request;
}

StatusOr<uint32_t> execute_request(Request* request, const ExecuteContext& context) {
  const uint64_t room = request->to_driver.remaining();
  RequestStatus answer = request->verdict;
  if (answer == RequestStatus::kOk) {
    const Status status = run(request, context);
    if (!status.ok()) {
      count_failure(status, context.metrics);
      answer = RequestStatus::kIoError;
    }
  } else {
    ++(answer == RequestStatus::kUnsupported ? context.metrics->unsupported
                                             : context.metrics->refused);
  }
  RAMET_RETURN_IF_ERROR(request->status.write_object(answer));
  // 2.7.8.2: `len` counts bytes written from the start without a gap. After a part of the data
  // only, the status byte is not among them, and a driver that trusts `len` must not see what is
  // between.
  const uint64_t written = room - request->to_driver.remaining();
  return static_cast<uint32_t>(written == room ? room + 1 : written);
}

}  // namespace ramet::block
