// Parts that need no bundle: hashes with published answers, wire format, texts, and the letterbox's arithmetic.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "letterbox.hpp"
#include "sha256.hpp"
#include "text.hpp"
#include "wire.hpp"

using namespace edgemtl::core;

namespace {

void expect(bool condition, const char *what, int line) {
    if (condition) return;
    std::fprintf(stderr, "unit.cpp:%d: %s\n", line, what);
    std::exit(1);
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

template <class Call>
bool is_broken(Call call) {
    try {
        call();
    } catch (const BrokenWire &) {
        return true;
    }
    return false;
}

void hashes() {  // FIPS 180-4's examples
    EXPECT(sha256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT(sha256(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

void wire() {
    std::size_t offset = 0;
    EXPECT(varint(std::string("\x96\x01", 2), offset) == 150 && offset == 2);
    EXPECT(is_broken([] {
        std::size_t at = 0;
        varint(std::string(11, '\xff'), at);
    }));
    EXPECT(is_broken([] { fields_of("\x0a\x7f"); }));
    EXPECT(fields_of(std::string("\x08\x05\x12\x01x", 5)).at(2)[0].bytes == "x");
    EXPECT(integers({1, VARINT, ~std::uint64_t{0}, {}})[0] == -1);
    EXPECT(is_utf8("h\xc3\xa9") && !is_utf8("\xc3") && !is_utf8("\xed\xa0\x80") && !is_utf8("\xc0\x80"));
}

void texts() {
    EXPECT(quoted("it's", 40) == "\"it's\"" && quoted("a\x1b[1m", 40) == "'a\\x1b[1m'" &&
           quoted("h\xc3\xa9", 40) == "'h\\xe9'");
    EXPECT(is_printable(std::string_view("B\xc3\xa4r 5")) && !is_printable(std::string_view("\x1b")) &&
           !is_printable(std::string_view("\xe2\x80\x8b")));
}

void letterbox() {
    const Letterbox wide(480, 640, 128, 160);
    EXPECT(wide.scale == 0.25 && wide.scaled_height == 120 && wide.scaled_width == 160);
    EXPECT(wide.x_to_camera(200) == 640 && wide.y_to_camera(-1) == 0);
    Pixels image{4, 4, 1, {0, 4, 8, 12, 4, 8, 12, 16, 100, 100, 200, 200, 100, 100, 200, 200}};
    EXPECT((resized(image, 2, 2).data == std::vector<std::uint8_t>{4, 12, 100, 200}));
    const Letterbox half(4, 4, 3, 2);
    std::vector<std::uint8_t> out(6);
    half.image(image, 114, out.data());
    EXPECT((out == std::vector<std::uint8_t>{4, 12, 100, 200, 114, 114}));
    const std::uint8_t map[] = {1, 2, 3, 4, 9, 9};
    EXPECT((half.map_to_camera(map, 1) == std::vector<std::uint8_t>{1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4}));
}

}  // namespace

int main() {
    hashes();
    wire();
    texts();
    letterbox();
}
