#include "onnx_check.hpp"

#include <map>
#include <vector>

#include "failure.hpp"
#include "onnx_sizes.hpp"
#include "text.hpp"
#include "wire.hpp"

namespace edgemtl::core {
namespace {

constexpr std::size_t MAX_BYTES = std::size_t{2048} << 20;  // protobuf takes no larger file
constexpr int MAX_DEPTH = 32, MAX_FIELDS = 1'000'000, MAX_NODES = 100'000;
constexpr std::size_t MAX_NAME = 1024, MAX_DOC = 1 << 20;
constexpr double MAX_ELEMENTS_PER_BYTE = 4;

enum class Message {
    none,
    model,
    opset,
    string,
    graph,
    node,
    attribute,
    tensor,
    value,
    type,
    tensor_type,
    shape,
    dimension
};
enum class Kind { text, doc, number, real, bytes, domain, message };

struct Rule {
    Kind kind;
    bool repeated = false;
    Message message = Message::none;
};

using Rules = std::map<std::uint64_t, Rule>;

Rule of(Message message, bool repeated = false) { return {Kind::message, repeated, message}; }

/// Fields that the exporter writes, by message: number and type (onnx.proto, IR version 10).
const std::map<Message, std::pair<const char *, Rules>> ALLOWED{
    {Message::model,
     {"ModelProto",
      {{1, {Kind::number}},
       {2, {Kind::text}},
       {3, {Kind::text}},
       {4, {Kind::text}},
       {5, {Kind::number}},
       {6, {Kind::doc}},
       {7, of(Message::graph)},
       {8, of(Message::opset, true)},
       {14, of(Message::string, true)}}}},
    {Message::opset, {"OpsetProto", {{1, {Kind::domain}}, {2, {Kind::number}}}}},
    {Message::string, {"StringProto", {{1, {Kind::text}}, {2, {Kind::doc}}}}},
    {Message::graph,
     {"GraphProto",
      {{1, of(Message::node, true)},
       {2, {Kind::text}},
       {5, of(Message::tensor, true)},
       {10, {Kind::doc}},
       {11, of(Message::value, true)},
       {12, of(Message::value, true)},
       {13, of(Message::value, true)}}}},
    {Message::node,
     {"NodeProto",
      {{1, {Kind::text, true}},
       {2, {Kind::text, true}},
       {3, {Kind::text}},
       {4, {Kind::text}},
       {5, of(Message::attribute, true)},
       {6, {Kind::doc}},
       {7, {Kind::domain}}}}},
    {Message::attribute,
     {"AttributeProto",
      {{1, {Kind::text}},
       {2, {Kind::real}},
       {3, {Kind::number}},
       {4, {Kind::bytes}},
       {5, of(Message::tensor)},
       {7, {Kind::real, true}},
       {8, {Kind::number, true}},
       {9, {Kind::bytes, true}},
       {13, {Kind::doc}},
       {20, {Kind::number}}}}},
    {Message::tensor,
     {"TensorProto",
      {{1, {Kind::number, true}},
       {2, {Kind::number}},
       {4, {Kind::real, true}},
       {5, {Kind::number, true}},
       {7, {Kind::number, true}},
       {8, {Kind::text}},
       {9, {Kind::bytes}},
       {10, {Kind::real, true}},
       {11, {Kind::number, true}},
       {12, {Kind::doc}},
       {14, {Kind::number}}}}},
    {Message::value, {"ValueProto", {{1, {Kind::text}}, {2, of(Message::type)}, {3, {Kind::doc}}}}},
    {Message::type, {"TypeProto", {{1, of(Message::tensor_type)}, {6, {Kind::text}}}}},
    {Message::tensor_type, {"TensorTypeProto", {{1, {Kind::number}}, {2, of(Message::shape)}}}},
    {Message::shape, {"ShapeProto", {{1, of(Message::dimension, true)}}}},
    {Message::dimension, {"DimensionProto", {{1, {Kind::number}}, {2, {Kind::text}}, {3, {Kind::text}}}}},
};

/// What a field that is not allowed means.
std::string reason(Message message, const char *name, std::uint64_t number) {
    static const std::map<std::pair<Message, std::uint64_t>, const char *> reasons{
        {{Message::tensor, 13}, "wants to read weights from another file"},
        {{Message::tensor, 14}, "wants to read weights from another file"},
        {{Message::model, 20}, "holds training information"},
        {{Message::model, 25}, "holds functions of its own"},
        {{Message::graph, 15}, "holds sparse weights"},
        {{Message::attribute, 6}, "holds branches or loops"},
        {{Message::attribute, 11}, "holds branches or loops"},
        {{Message::attribute, 22}, "holds sparse weights"},
        {{Message::attribute, 23}, "holds sparse weights"},
        {{Message::attribute, 21}, "holds functions of its own"},
    };
    const auto found = reasons.find({message, number});
    if (found != reasons.end()) return found->second;
    return "has a field " + std::to_string(number) + " of " + name + ", which is unknown";
}

class Validator {
  public:
    Fields message(std::string_view data, Message type, int depth);
    Sizes sizes;

  private:
    void value(const Field &field, const Rule &rule, int depth, std::vector<NamedNumbers> &attributes);
    void tensor(const Fields &values, std::size_t length, bool is_stored);

    int fields = 0, nodes = 0;
};

Fields Validator::message(std::string_view data, Message type, int depth) {
    if (depth > MAX_DEPTH) throw UnsafeOnnx("is nested without end");
    const auto &[name, rules] = ALLOWED.at(type);
    Fields values;
    std::vector<NamedNumbers> attributes;
    FieldReader reader(data);
    for (Field field; reader.next(field);) {
        if (++fields > MAX_FIELDS) throw UnsafeOnnx("has more than " + std::to_string(MAX_FIELDS) + " fields");
        const auto rule = rules.find(field.number);
        // Where the data are: 0 is in this file.
        const bool elsewhere =
            type == Message::tensor && field.number == 14 && !(field.wire == VARINT && field.value == 0);
        if (rule == rules.end() || elsewhere) throw UnsafeOnnx(reason(type, name, field.number));
        if (!rule->second.repeated && values.count(field.number))
            throw UnsafeOnnx(std::string("has a field of ") + name + " twice");
        values[field.number].push_back(field);
        value(field, rule->second, depth, attributes);
    }
    if (type == Message::tensor) tensor(values, data.size(), depth == 2);
    if (type == Message::node) {
        if (++nodes > MAX_NODES) throw UnsafeOnnx("has more than " + std::to_string(MAX_NODES) + " nodes");
        sizes.add_node(values, attributes);
    }
    return values;
}

void Validator::value(const Field &field, const Rule &rule, int depth, std::vector<NamedNumbers> &attributes) {
    const bool is_fixed = field.wire == FIXED32 || field.wire == FIXED64;
    if (rule.kind == Kind::number || rule.kind == Kind::real) {
        if (field.wire != LEN && (rule.kind == Kind::number ? field.wire != VARINT : !is_fixed)) throw BrokenWire();
    } else if (field.wire != LEN) {
        throw BrokenWire();
    } else if (rule.kind == Kind::message) {
        const Fields inner = message(field.bytes, rule.message, depth + 1);
        if (rule.message == Message::attribute) attributes.push_back(attribute_numbers(inner));
    } else if (rule.kind != Kind::bytes) {
        if (field.bytes.size() > (rule.kind == Kind::doc ? MAX_DOC : MAX_NAME))
            throw UnsafeOnnx("holds a text of " + std::to_string(field.bytes.size()) + " letters");
        if (!is_utf8(field.bytes)) throw UnsafeOnnx("holds a text that is no UTF-8");
        if (rule.kind == Kind::domain) {
            const std::string_view domain = text_of(field);
            const std::string shown = quoted(domain, 60);
            if (!domain.empty() && domain != "ai.onnx")
                throw UnsafeOnnx("calls operators of '" + shown.substr(1, shown.size() - 2) +
                                 "', which are not ONNX's");
        }
    }
}

void Validator::tensor(const Fields &values, std::size_t length, bool is_stored) {
    std::vector<std::string> texts;
    double elements = 1;
    bool negative = false;
    const auto found = values.find(1);
    if (found != values.end())
        for (const Field &part : found->second)
            for (const std::int64_t size : integers(part)) {
                negative = negative || size < 0;
                elements *= static_cast<double>(size);
                texts.push_back(std::to_string(size));
            }
    if (negative || elements > MAX_ELEMENTS_PER_BYTE * static_cast<double>(length))
        throw UnsafeOnnx("has a tensor of the size " + ("[" + joined(texts, ", ") + "]").substr(0, 80) + " in " +
                         std::to_string(length) + " bytes");
    if (is_stored) sizes.add_initializer(values);
}

bool has_graph(std::string_view data) {
    FieldReader reader(data);
    int count = 0;
    for (Field field; count < MAX_FIELDS && reader.next(field); ++count)
        if (field.number == 7) return true;
    return false;
}

}  // namespace

void check_onnx(std::string_view data, const std::string &file) {
    if (data.size() > MAX_BYTES)
        throw BundleFailure(file + ": larger than an ONNX model can be; export the bundle again");
    Validator validator;
    try {
        if (!has_graph(data)) throw BundleFailure(file + ": holds no network; export the bundle again");
        validator.message(data, Message::model, 0);
        validator.sizes.check();
    } catch (const UnsafeOnnx &unsafe) {
        throw BundleFailure(file + ": " + unsafe.what() + "; do not use this bundle");
    } catch (const BrokenWire &) {
        throw BundleFailure(file + ": is no ONNX model (its encoding is broken); export the bundle again");
    }
}

}  // namespace edgemtl::core
