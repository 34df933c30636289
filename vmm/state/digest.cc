#include "vmm/state/digest.h"

#define XXH_STATIC_LINKING_ONLY  // for the size of XXH3_state_t, so that making one cannot fail
#include <xxhash.h>

namespace ramet {

struct Digest::State {
  XXH3_state_t xxh;
};

Digest::Digest() : state_(std::make_unique<State>()) { XXH3_64bits_reset(&state_->xxh); }

Digest::~Digest() = default;

void Digest::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}

uint64_t Digest::value() const { return XXH3_64bits_digest(&state_->xxh); }

uint64_t digest(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace ramet
