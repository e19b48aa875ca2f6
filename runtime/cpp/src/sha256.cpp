#include "sha256.hpp"

#include <array>
#include <cstdint>
#include <cstdio>

namespace edgemtl::core {
namespace {

using Words = std::array<std::uint32_t, 8>;

/// The first 32 bits of the fractions of the first primes' roots: the cube roots of 64 of them, the square roots of 8.
std::uint32_t fraction(unsigned prime, bool cube) {
    // The root in fixed point with 32 bits after the point, by bisection.
    std::uint64_t low = 0, high = std::uint64_t{32} << 32;
    while (high - low > 1) {
        const std::uint64_t middle = low + (high - low) / 2;
        const __uint128_t square = static_cast<__uint128_t>(middle) * middle;
        const bool above = cube ? square * middle >= static_cast<__uint128_t>(prime) << 96
                                : square >= static_cast<__uint128_t>(prime) << 64;
        (above ? high : low) = middle;
    }
    return static_cast<std::uint32_t>(low);
}

struct Constants {
    std::array<std::uint32_t, 64> round{};
    Words begin{};

    Constants() {
        unsigned prime = 2;
        for (std::size_t i = 0; i < round.size(); ++prime) {
            bool is_prime = true;
            for (unsigned d = 2; d * d <= prime; ++d) is_prime = is_prime && prime % d != 0;
            if (!is_prime) continue;
            if (i < begin.size()) begin[i] = fraction(prime, false);
            round[i++] = fraction(prime, true);
        }
    }
};

std::uint32_t rotated(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

void add_block(const unsigned char *block, Words &state, const Constants &constants) {
    std::array<std::uint32_t, 64> w{};
    for (int i = 0; i < 16; ++i)
        w[i] = std::uint32_t{block[4 * i]} << 24 | std::uint32_t{block[4 * i + 1]} << 16 |
               std::uint32_t{block[4 * i + 2]} << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; ++i)
        w[i] = w[i - 16] + w[i - 7] + (rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10);
    auto [a, b, c, d, e, f, g, h] = state;
    for (int i = 0; i < 64; ++i) {
        const std::uint32_t one =
            h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + constants.round[i] + w[i];
        const std::uint32_t two = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    const Words added{a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < state.size(); ++i) state[i] += added[i];
}

}  // namespace

std::string sha256(std::string_view bytes) {
    static const Constants constants;
    Words state = constants.begin;
    const auto *data = reinterpret_cast<const unsigned char *>(bytes.data());
    std::size_t offset = 0;
    for (; offset + 64 <= bytes.size(); offset += 64) add_block(data + offset, state, constants);
    std::array<unsigned char, 128> last{};
    const std::size_t rest = bytes.size() - offset;
    for (std::size_t i = 0; i < rest; ++i) last[i] = data[offset + i];
    last[rest] = 0x80;
    const std::size_t length = rest < 56 ? 64 : 128;
    const std::uint64_t bits = std::uint64_t{bytes.size()} * 8;
    for (int i = 0; i < 8; ++i) last[length - 1 - i] = static_cast<unsigned char>(bits >> 8 * i);
    for (std::size_t block = 0; block < length; block += 64) add_block(last.data() + block, state, constants);
    std::string digits;
    for (const std::uint32_t word : state) {
        char buffer[9];
        std::snprintf(buffer, sizeof buffer, "%08x", word);
        digits += buffer;
    }
    return digits;
}

}  // namespace edgemtl::core
