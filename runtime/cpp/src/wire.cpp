#include "wire.hpp"

namespace edgemtl::core {

std::uint64_t varint(std::string_view data, std::size_t &offset) {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (offset >= data.size()) throw BrokenWire();
        const auto byte = static_cast<unsigned char>(data[offset++]);
        if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
    }
    throw BrokenWire();
}

bool FieldReader::next(Field &field) {
    if (offset >= data.size()) return false;
    const std::uint64_t tag = varint(data, offset);
    field = {tag >> 3, static_cast<int>(tag & 7), 0, {}};
    std::uint64_t length = 0;
    switch (field.wire) {
        case VARINT: field.value = varint(data, offset); break;
        case FIXED64: length = 8; break;
        case FIXED32: length = 4; break;
        case LEN: length = varint(data, offset); break;
        default: throw BrokenWire();
    }
    if (length > data.size() - offset || field.number == 0) throw BrokenWire();
    field.bytes = data.substr(offset, length);
    offset += length;
    return true;
}

Fields fields_of(std::string_view message) {
    Fields fields;
    FieldReader reader(message);
    for (Field field; reader.next(field);) fields[field.number].push_back(field);
    return fields;
}

bool is_utf8(std::string_view bytes) {
    for (std::size_t i = 0; i < bytes.size();) {
        const auto lead = static_cast<unsigned char>(bytes[i]);
        const int length = lead < 0x80                   ? 1
                           : lead >= 0xC2 && lead < 0xE0 ? 2
                           : lead >= 0xE0 && lead < 0xF0 ? 3
                           : lead >= 0xF0 && lead < 0xF5 ? 4
                                                         : 0;
        if (length == 0 || i + length > bytes.size()) return false;
        for (int k = 1; k < length; ++k)
            if ((static_cast<unsigned char>(bytes[i + k]) & 0xC0) != 0x80) return false;
        const auto second = length > 1 ? static_cast<unsigned char>(bytes[i + 1]) : 0;
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
            (lead == 0xF4 && second > 0x8F))
            return false;
        i += length;
    }
    return true;
}

std::string_view text_of(const Field &field) {
    if (field.wire == VARINT || !is_utf8(field.bytes)) throw BrokenWire();
    return field.bytes;
}

std::vector<std::int64_t> integers(const Field &field) {
    if (field.wire == VARINT) return {static_cast<std::int64_t>(field.value)};
    std::vector<std::int64_t> values;
    for (std::size_t offset = 0; offset < field.bytes.size();)
        values.push_back(static_cast<std::int64_t>(varint(field.bytes, offset)));
    return values;
}

}  // namespace edgemtl::core
