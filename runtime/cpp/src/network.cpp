#include "network.hpp"

#include <algorithm>
#include <optional>

#include "failure.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr int MOST_SIDE = 16384;

Failure argument(const std::string &line) { return {EDGEMTL_ERROR_ARGUMENT, line}; }

std::string camera_option(const std::string &name) {
    return name == "rgb" || name == "ir" ? "--" + name : "--camera " + name + "=...";
}

void check_image(const edgemtl_image &image) {
    const std::string name = std::string("the image of camera ") + image.camera;
    if (!image.data || image.height < 1 || image.width < 1 || image.height > MOST_SIDE || image.width > MOST_SIDE)
        throw Failure(EDGEMTL_ERROR_IMAGE, name + " is " + std::to_string(image.height) + "x" +
                                               std::to_string(image.width) + (image.data ? "" : " without data") +
                                               "; sides are 1 to 16384 pixels");
    if (image.pixels < EDGEMTL_RGB8 || image.pixels > EDGEMTL_GREY16)
        throw argument(name + " has pixels of the kind " + std::to_string(image.pixels) +
                       "; take one of edgemtl_pixels");
    const bool is_colour = image.pixels == EDGEMTL_RGB8 || image.pixels == EDGEMTL_BGR8,
               is_16 = image.pixels == EDGEMTL_GREY16;
    const std::size_t row = static_cast<std::size_t>(image.width) * (is_colour ? 3 : is_16 ? 2 : 1);
    if (image.row_bytes && image.row_bytes < row)
        throw argument(name + " has rows of " + std::to_string(image.row_bytes) + " bytes; its pixels take " +
                       std::to_string(row));
    if (is_16 && (image.row_bytes % 2 || reinterpret_cast<std::uintptr_t>(image.data) % 2))
        throw argument(name + " has counts of 16 bits at odd addresses");
}

std::vector<std::string> names_of(const std::vector<Input> &inputs) {
    std::vector<std::string> names;
    for (const Input &input : inputs) names.push_back(input.name);
    return names;
}

}  // namespace

Network::Network(const std::string &folder, const std::string &precision, const EngineOptions &options)
    : bundle(open_bundle(folder, precision)), engine(open_engine(bundle, options)) {
    bundle.model = std::string();  // the engine has its own copy
    for (const Head &head : bundle.manifest.heads) {
        thresholds[head.name] = {static_cast<float>(head.threshold)};
        std::vector<const char *> &names = classes.emplace_back();
        for (const std::string &name : head.classes) names.push_back(name.c_str());
    }
}

void Network::set_threshold(const std::string &name, const char *class_name, float threshold) {
    const auto &heads = bundle.manifest.heads;
    const auto head = std::find_if(heads.begin(), heads.end(), [&](const Head &one) { return one.name == name; });
    if (head == heads.end()) {
        std::vector<std::string> known;
        for (const Head &one : heads) known.push_back(one.name);
        throw argument("no head " + quoted(name, 100) + "; known are: " + joined(known, ", "));
    }
    if (!has_thresholds(*head)) throw argument("head " + name + " has no threshold");
    if (!(threshold >= 0 && threshold <= 1))
        throw argument("a threshold of " + number(threshold) + "; it lies between 0 and 1");
    const std::lock_guard<std::mutex> guard(lock);
    std::vector<float> &values = thresholds[name];
    if (!class_name) {
        std::fill(values.begin(), values.end(), threshold);
        return;
    }
    const auto at = std::find(head->classes.begin(), head->classes.end(), class_name);
    if (at == head->classes.end() || head->decoder == "edge_map")
        throw argument("head " + name + " has no class " + quoted(class_name, 100) +
                       "; known are: " + joined(head->classes, ", "));
    values.resize(head->classes.size(), values[0]);
    values[static_cast<std::size_t>(at - head->classes.begin())] = threshold;
}

std::vector<const edgemtl_image *> Network::ordered(const edgemtl_image *images, std::size_t count) const {
    const auto &inputs = bundle.manifest.inputs;
    const std::string takes = "it takes " + joined(names_of(inputs), " and ");
    std::vector<const edgemtl_image *> by_input(inputs.size());
    for (std::size_t i = 0; i < count; ++i) {
        const std::string camera = images[i].camera ? images[i].camera : "";
        const auto spec =
            std::find_if(inputs.begin(), inputs.end(), [&](const Input &input) { return input.name == camera; });
        if (spec == inputs.end())
            throw argument("the bundle has no input " + camera + "; " + takes + ": leave out " + camera_option(camera));
        const edgemtl_image *&slot = by_input[static_cast<std::size_t>(spec - inputs.begin())];
        if (slot) throw argument("two images of camera " + camera + "; give one of each");
        check_image(images[i]);
        slot = &images[i];
    }
    std::vector<std::string> required, missing;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (!by_input[i]) {
            missing.push_back(camera_option(inputs[i].name));
            if (!inputs[i].may_be_missing) required.push_back(missing.back());
        }
    if (!required.empty() || missing.size() == inputs.size())
        throw argument("the bundle needs " + joined(required.empty() ? missing : required, " and ") +
                       (count ? " as well" : "") + "; " + takes);
    return by_input;
}

Result Network::run(const edgemtl_image *images, std::size_t count) {
    const auto &inputs = bundle.manifest.inputs;
    const auto by_input = ordered(images, count);
    Result result;
    std::optional<Letterbox> reference;
    std::vector<std::vector<std::uint8_t>> network_inputs;
    std::int64_t earliest = INT64_MAX;
    result.stamp_ns = INT64_MIN;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Input &input = inputs[i];
        const auto blank = static_cast<std::uint8_t>(input.blank);
        auto &pixels =
            network_inputs.emplace_back(static_cast<std::size_t>(input.height) * input.width * input.channels, blank);
        if (!by_input[i]) continue;
        const edgemtl_image &image = *by_input[i];
        const Letterbox letterbox(image.height, image.width, input.height, input.width);
        letterbox.image(as_modality(image, input), blank, pixels.data());
        if (!reference) {
            reference = letterbox;
            result.camera = input.name, result.camera_stamp_ns = image.stamp_ns;
            result.height = image.height, result.width = image.width;
        }
        earliest = std::min(earliest, image.stamp_ns), result.stamp_ns = std::max(result.stamp_ns, image.stamp_ns);
    }
    result.skew_ns = result.stamp_ns - earliest;
    std::unique_ptr<Outputs> outputs;
    std::map<std::string, std::vector<float>> least;
    {
        const std::lock_guard<std::mutex> guard(lock);
        outputs = engine->run(network_inputs);
        least = thresholds;
    }
    for (const Head &head : bundle.manifest.heads)
        result.heads[head.name] = decode(outputs->by_name.at(head.name), head, *reference, least.at(head.name));
    return result;
}

}  // namespace edgemtl::core
