#include "manifest.hpp"

#include <cmath>
#include <set>

#include "failure.hpp"
#include "json_reader.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr std::int64_t MOST_PIXELS = 1 << 26;
constexpr std::size_t MOST_PARTS = 64, MOST_CLASSES = 10'000, LONGEST_NAME = 100;
constexpr int MAX_DEPTH = 1000;

std::string in_quotes(const std::string &text, std::size_t most) { return "'" + first(text, most) + "'"; }

void check_number(const JsonValue &at, const std::string &what, double value, double low, double high) {
    if (!(std::isfinite(value) && low <= value && value <= high))
        at.fail(what + " is " + number(value) + "; it lies between " + number(low) + " and " + number(high));
}

void check_text(const JsonValue &at, const std::string &what, const std::string &text, std::size_t longest = 200) {
    if (code_points(text).size() > longest || !is_printable(std::string_view(text)))
        at.fail(what + " " + quoted(text, 40) + " is longer than " + std::to_string(longest) +
                " letters or has signs that do not print");
}

void check_name(const JsonValue &at, const std::string &what, const std::string &name) {
    if (!is_plain_name(name))
        at.fail("the name " + quoted(name, 100) + " of the " + what +
                " has other characters than letters, digits and ._-");
}

std::string decimal(double value) {
    const std::string text = number(value);
    return text.find_first_of(".en") == text.npos ? text + ".0" : text;
}

ThermalRange thermal_range(const JsonValue &value) {
    ThermalRange range;
    std::string kind = "percentile";
    ObjectReader()
        .optional("kind", [&](const JsonValue &v) { kind = v.text(); })
        .optional("low", [&](const JsonValue &v) { range.low = v.real(); })
        .optional("high", [&](const JsonValue &v) { range.high = v.real(); })
        .read(value);
    if (kind != "radiometric" && kind != "percentile")
        value.fail("thermal_range kind is 'radiometric' or 'percentile', not " + in_quotes(kind, 40));
    range.is_percentile = kind == "percentile";
    for (const double end : {range.low, range.high}) check_number(value, "thermal_range", end, -1e6, 1e6);
    const std::string ends = decimal(range.low) + " and " + decimal(range.high);
    if (!(range.low < range.high)) value.fail("thermal_range needs low < high, not " + ends);
    if (range.is_percentile && !(range.low >= 0 && range.high <= 100))
        value.fail("thermal_range percentiles lie in [0, 100], not " + ends);
    return range;
}

void check_input(const JsonValue &value, const Input &input, std::int64_t height, std::int64_t width,
                 std::int64_t channels, const std::string &dtype, const std::string &layout,
                 const std::vector<double> &mean, const std::vector<double> &deviation, std::int64_t blank) {
    const std::string name = "input '" + input.name + "'";
    const std::string size = std::to_string(height) + "x" + std::to_string(width);
    check_name(value, "input", input.name);
    if (dtype != "uint8" || layout != "NHWC")
        value.fail(name + " is " + dtype + " " + layout + "; this runtime feeds uint8 NHWC");
    const bool possible = height > 0 && height <= 16384 && width > 0 && width <= 16384;
    if ((channels != 1 && channels != 3) || !possible)
        value.fail(name + " has the impossible shape " + size + "x" + std::to_string(channels));
    if (height * width > MOST_PIXELS)
        value.fail(name + " has " + size + " pixels, more than " + std::to_string(MOST_PIXELS));
    const auto count = static_cast<std::size_t>(channels);
    if (mean.size() != count || deviation.size() != count)
        value.fail(name + " has " + std::to_string(channels) + " channels but other counts of mean and std");
    for (const double number : mean) check_number(value, "a mean of " + name, number, -1e6, 1e6);
    for (const double number : deviation) check_number(value, "a std of " + name, number, 1e-6, 1e6);
    check_number(value, "blank of " + name, static_cast<double>(blank), 0, 255);
    check_text(value, "modality", input.modality);
}

Input input_of(const JsonValue &value) {
    Input input;
    std::int64_t height = 0, width = 0, channels = 0, blank = 114;
    std::vector<double> mean, deviation;
    std::string dtype = "uint8", layout = "NHWC";
    ObjectReader()
        .required("name", [&](const JsonValue &v) { input.name = v.text(); })
        .required("height", [&](const JsonValue &v) { height = v.integer(); })
        .required("width", [&](const JsonValue &v) { width = v.integer(); })
        .required("channels", [&](const JsonValue &v) { channels = v.integer(); })
        .required("mean", [&](const JsonValue &v) { mean = v.reals(); })
        .required("std", [&](const JsonValue &v) { deviation = v.reals(); })
        .optional("modality", [&](const JsonValue &v) { input.modality = v.text(); })
        .optional("dtype", [&](const JsonValue &v) { dtype = v.text(); })
        .optional("layout", [&](const JsonValue &v) { layout = v.text(); })
        .optional("blank", [&](const JsonValue &v) { blank = v.integer(); })
        .optional("thermal_range", [&](const JsonValue &v) { input.thermal_range = thermal_range(v); })
        .optional("may_be_missing", [&](const JsonValue &v) { input.may_be_missing = v.boolean(); })
        .read(value);
    check_input(value, input, height, width, channels, dtype, layout, mean, deviation, blank);
    input.height = static_cast<int>(height), input.width = static_cast<int>(width);
    input.channels = static_cast<int>(channels), input.blank = static_cast<int>(blank);
    return input;
}

Head head_of(const JsonValue &value) {
    Head head;
    std::vector<double> value_range;
    ObjectReader()
        .required("name", [&](const JsonValue &v) { head.name = v.text(); })
        .required("task", [&](const JsonValue &v) { head.task = v.text(); })
        .required("decoder", [&](const JsonValue &v) { head.decoder = v.text(); })
        .required("classes", [&](const JsonValue &v) { head.classes = v.texts(); })
        .optional("units", [&](const JsonValue &v) { head.units = v.text(); })
        .optional("threshold", [&](const JsonValue &v) { head.threshold = v.real(); })
        .optional("value_range",
                  [&](const JsonValue &v) {
                      if (v.is_null()) return;
                      for (const JsonValue &end : v.array("array | null")) value_range.push_back(end.real());
                      if (value_range.size() != 2)
                          v.fail("Expected `array` of length 2, got " + std::to_string(value_range.size()));
                  })
        .optional("nms_iou", [&](const JsonValue &v) { head.nms_iou = v.real(); })
        .read(value);
    check_name(value, "head", head.name);
    const std::string of = " of head '" + head.name + "'";
    for (const double end : value_range) check_number(value, "value_range" + of, end, -1e9, 1e9);
    if (!value_range.empty() && !(value_range[0] < value_range[1]))
        value.fail("value_range" + of + " needs low < high, not (" + decimal(value_range[0]) + ", " +
                   decimal(value_range[1]) + ")");
    check_number(value, "threshold" + of, head.threshold, 0, 1);
    check_number(value, "nms_iou" + of, head.nms_iou, 0, 1);
    if (head.classes.size() > MOST_CLASSES)
        value.fail("head '" + head.name + "' has " + std::to_string(head.classes.size()) + " classes, more than " +
                   std::to_string(MOST_CLASSES));
    check_text(value, "task", head.task), check_text(value, "decoder", head.decoder),
        check_text(value, "units", head.units);
    for (const std::string &name : head.classes) check_text(value, "class", name);
    return head;
}

// Figures of the export: only their form is checked, as nothing here reads them.

void integer(const JsonValue &value) { value.integer(); }
void real(const JsonValue &value) { value.real(); }
void text(const JsonValue &value) { value.text(); }
void real_or_null(const JsonValue &value) {
    if (!value.is_null()) value.real();
}

template <class Read>
ObjectReader::Read mapping(Read read) {
    return [read](const JsonValue &value) {
        value.entries([&](const std::string &, const JsonValue &entry) { read(entry); });
    };
}

/// What keys of a dictionary hold; it may have others.
void typed(const JsonValue &value, const std::map<std::string, ObjectReader::Read> &keys) {
    value.entries([&](const std::string &key, const JsonValue &) {
        const auto found = keys.find(key);
        if (found != keys.end()) found->second(value.member(key));
    });
}

void removed(const JsonValue &value) {
    typed(value, {{"parameters_before", integer},
                  {"parameters_after", integer},
                  {"parameters_bound", integer},
                  {"buffers_before", integer},
                  {"buffers_after", integer},
                  {"flops_before", integer},
                  {"flops_after", integer},
                  {"pinned", mapping(integer)},
                  {"proof", mapping(real_or_null)}});
}

void parity(const JsonValue &value, std::vector<std::string> &names) {
    typed(value, {{"frames", integer}, {"raw_max_abs", mapping(real)}, {"agreement", [&](const JsonValue &v) {
                                                                            v.entries([&](const std::string &name,
                                                                                          const JsonValue &entry) {
                                                                                names.push_back(name);
                                                                                real_or_null(entry);
                                                                            });
                                                                        }}});
}

void precision(const JsonValue &value, std::vector<std::string> &names) {
    const auto scores = [&](const JsonValue &v) {
        v.entries([&](const std::string &name, const JsonValue &metrics) {
            names.push_back(name);
            metrics.entries([&](const std::string &metric, const JsonValue &entry) {
                names.push_back(metric);
                real_or_null(entry);
            });
        });
    };
    const auto names_of = [](const JsonValue &v) { v.texts(); };
    typed(value, {{"bytes", integer},
                  {"latency_ms", real},
                  {"measured_on", text},
                  {"scores", scores},
                  {"agreement", mapping(real_or_null)},
                  {"fp32_layers", names_of},
                  {"kept", names_of},
                  {"convolutions", integer},
                  {"undecided", text}});
}

template <class Part>
void check_parts(const JsonValue &value, const char *what, const std::vector<Part> &parts) {
    std::set<std::string> names;
    for (const Part &part : parts) names.insert(part.name);
    if (names.size() < parts.size() || parts.size() > MOST_PARTS)
        value.fail(std::string("two ") + what + "s have one name, or there are more than " +
                   std::to_string(MOST_PARTS));
}

Manifest manifest_of(const JsonValue &value) {
    Manifest manifest;
    std::string producer;
    std::vector<std::string> agreement, scores;
    ObjectReader()
        .required("name", [&](const JsonValue &v) { manifest.name = v.text(); })
        .required("inputs",
                  [&](const JsonValue &v) {
                      for (const auto &part : v.array()) manifest.inputs.push_back(input_of(part));
                  })
        .required("heads",
                  [&](const JsonValue &v) {
                      for (const auto &part : v.array()) manifest.heads.push_back(head_of(part));
                  })
        .required(
            "files",
            [&](const JsonValue &v) {
                v.entries([&](const std::string &name, const JsonValue &hash) { manifest.files[name] = hash.text(); });
            })
        .required("licence", [&](const JsonValue &v) { manifest.licence = v.text(); })
        .optional("schema_version", [&](const JsonValue &v) { v.integer(); })
        .optional("producer", [&](const JsonValue &v) { producer = v.text(); })
        .optional("removed", [&](const JsonValue &v) { removed(v); })
        .optional("parity", [&](const JsonValue &v) { parity(v, agreement); })
        .optional("precisions",
                  [&](const JsonValue &v) {
                      v.entries([&](const std::string &, const JsonValue &part) { precision(part, scores); });
                  })
        .optional(
            "rejected",
            [&](const JsonValue &v) {
                v.entries([&](const std::string &name, const JsonValue &why) { manifest.rejected[name] = why.text(); });
            })
        .read(value);
    check_parts(value, "input", manifest.inputs);
    check_parts(value, "head", manifest.heads);
    for (const Input &input : manifest.inputs)
        for (const Head &head : manifest.heads)
            if (input.name == head.name) value.fail("an input and a head are both named " + quoted(head.name, 100));
    if (manifest.files.size() > MOST_PARTS)
        value.fail("lists " + std::to_string(manifest.files.size()) + " files, more than " +
                   std::to_string(MOST_PARTS));
    std::vector<std::string> texts{manifest.name, producer, manifest.licence};
    for (const auto &[name, why] : manifest.rejected) texts.push_back(name), texts.push_back(why);
    for (const std::string &text : texts)
        check_text(value, "name, producer, licence or reason of a rejection", text, 4000);
    for (const std::string &name : agreement) check_text(value, "parity", name);
    for (const std::string &name : scores) check_text(value, "precisions", name);
    return manifest;
}

/// Rename a key of versions 1 and 2; where the new one is there too, the old one is unknown.
void rename_key(Json &object, const char *old_key, const char *new_key) {
    if (!object.is_object() || !object.contains(old_key) || object.contains(new_key)) return;
    object[new_key] = object[old_key];
    object.erase(old_key);
}

Json parsed(std::string_view bytes, const std::string &file) {
    // nlohmann's reader asks before every collection whether to go on: one that is nested without end is refused.
    int depth = 0;
    bool is_deep = false;
    const Json::parser_callback_t bounded = [&](int at, Json::parse_event_t event, Json &) {
        depth = at;
        if ((event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) &&
            depth > MAX_DEPTH)
            is_deep = true;
        return !is_deep;
    };
    try {
        Json json = Json::parse(bytes.begin(), bytes.end(), bounded);
        if (is_deep) throw BundleFailure(file + ": not JSON (nested too deep); copy the bundle again");
        return json;
    } catch (const Json::parse_error &error) {  // whose text repeats the file's bytes
        throw BundleFailure(file + ": not JSON (malformed at byte " + std::to_string(error.byte) +
                            "); copy the bundle again");
    } catch (const Json::exception &) {  // a number beyond all numbers
        throw BundleFailure(file + ": not JSON (a number is out of range); copy the bundle again");
    }
}

}  // namespace

bool is_plain_name(std::string_view name) {
    if (name.empty() || name.size() > LONGEST_NAME || name[0] == '.' || name[0] == '-') return false;
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    return name.find_first_not_of(allowed) == name.npos;
}

Manifest read_manifest(std::string_view bytes, const std::string &file) {
    Json json = parsed(bytes, file);
    const bool has_version =
        json.is_object() && json.contains("schema_version") && json["schema_version"].is_number_integer();
    if (!has_version) throw BundleFailure(file + ": has no schema_version; this is not an edgemtl bundle");
    const std::int64_t version = JsonValue(json["schema_version"]).integer();
    if (version < 1 || version > SCHEMA_VERSION)
        throw BundleFailure(file + ": schema version " + json["schema_version"].dump() + ", this runtime reads up to " +
                            std::to_string(SCHEMA_VERSION) + "; update edgemtl-runtime");
    if (version < 3) {
        rename_key(json, "refused", "rejected");
        if (json.contains("inputs") && json["inputs"].is_array())
            for (Json &input : json["inputs"]) rename_key(input, "may_be_absent", "may_be_missing");
    }
    try {
        Manifest manifest = manifest_of(JsonValue(json));
        if (manifest.inputs.empty() || manifest.heads.empty())
            throw BundleFailure(file + ": names no inputs or no heads; export the bundle again");
        return manifest;
    } catch (const InvalidJson &invalid) {
        throw BundleFailure(file + ": " + shortened(invalid.what()) + "; export the bundle again");
    }
}

}  // namespace edgemtl::core
