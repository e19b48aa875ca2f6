// Protobuf's wire format (protobuf.dev, "Encoding"), as far as ONNX files use it.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace edgemtl::core {

enum Wire : int { VARINT = 0, FIXED64 = 1, LEN = 2, FIXED32 = 5 };

/// Bytes that are no message: a broken encoding.
struct BrokenWire : std::runtime_error {
    BrokenWire() : std::runtime_error("broken encoding") {}
};

struct Field {
    std::uint64_t number = 0;
    int wire = 0;
    std::uint64_t value = 0;  // of a varint
    std::string_view bytes;   // of anything else
};

using Fields = std::map<std::uint64_t, std::vector<Field>>;

/// Reads the fields of a message one after the other; throws BrokenWire.
class FieldReader {
  public:
    explicit FieldReader(std::string_view data) : data(data) {}
    bool next(Field &field);

  private:
    std::string_view data;
    std::size_t offset = 0;
};

std::uint64_t varint(std::string_view data, std::size_t &offset);
Fields fields_of(std::string_view message);
/// A string field's text; throws BrokenWire where it is none, or not UTF-8.
std::string_view text_of(const Field &field);
/// The numbers of a repeated int64 field, packed or not.
std::vector<std::int64_t> integers(const Field &field);
bool is_utf8(std::string_view bytes);

}  // namespace edgemtl::core
