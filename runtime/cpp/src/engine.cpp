#include "engine.hpp"

#include <algorithm>
#include <optional>

#include "failure.hpp"
#include "ort_engine.hpp"
#include "tensorrt_engine.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr std::int64_t MOST_BOXES = 10'000, UP_TO_MOST = -2;

std::string shape_text(const std::vector<std::int64_t> &shape) {
    std::vector<std::string> sizes;
    for (const std::int64_t size : shape)
        sizes.push_back(size == UP_TO_MOST ? "'up to " + std::to_string(MOST_BOXES) + "'"
                        : size < 0         ? "'any'"
                                           : std::to_string(size));
    return "[" + joined(sizes, ", ") + "]";
}

/// The sizes that a head's decoder reads, without the batch axis; nothing where any will do.
std::optional<std::vector<std::int64_t>> expected_shape(const Head &head, const Input &input) {
    const auto count = static_cast<std::int64_t>(head.classes.size());
    switch (kind_of(head.decoder).value()) {
        case EDGEMTL_BOXES: return std::vector<std::int64_t>{UP_TO_MOST, 6};
        case EDGEMTL_POINTS: return std::vector<std::int64_t>{UP_TO_MOST, 4};
        case EDGEMTL_NORMAL_MAP: return std::vector<std::int64_t>{input.height, input.width, 3};
        case EDGEMTL_VECTOR_MAP: return std::vector<std::int64_t>{input.height, input.width, count};
        case EDGEMTL_ATTRIBUTES:
        case EDGEMTL_SCALARS: return std::vector<std::int64_t>{count};
        case EDGEMTL_TENSOR: return std::nullopt;
        default: return std::vector<std::int64_t>{input.height, input.width};
    }
}

bool fits(std::int64_t size, std::int64_t expected) {
    return size < 0 || (expected == UP_TO_MOST ? size <= MOST_BOXES : size == expected);
}

}  // namespace

std::unique_ptr<Engine> open_engine(const Bundle &bundle, const EngineOptions &options) {
    return options.plan.empty() ? open_ort_engine(bundle, options) : open_tensorrt_engine(bundle, options);
}

void check_signatures(const Manifest &manifest, const std::vector<Signature> &inputs,
                      const std::vector<Signature> &outputs) {
    bool same = inputs.size() == manifest.inputs.size();
    std::vector<std::string> taken, said;
    for (const Signature &one : inputs) {
        taken.push_back("'" + one.name + "': " + shape_text(one.shape));
        const auto spec = std::find_if(manifest.inputs.begin(), manifest.inputs.end(),
                                       [&](const Input &input) { return input.name == one.name; });
        if (spec == manifest.inputs.end() || one.type != Output::Type::uint8 || one.shape.size() != 4) {
            same = false;
            continue;
        }
        same = same && (one.shape[0] < 0 || one.shape[0] == 1) && one.shape[1] == spec->height &&
               one.shape[2] == spec->width && one.shape[3] == spec->channels;
    }
    for (const Input &input : manifest.inputs)
        said.push_back("'" + input.name + "': " + shape_text({1, input.height, input.width, input.channels}));
    if (!same)
        throw BundleFailure("the network takes {" + joined(taken, ", ") + "}, the manifest says {" +
                            joined(said, ", ") + "}; export the bundle again");
    for (const Head &head : manifest.heads) {
        const auto found = std::find_if(outputs.begin(), outputs.end(),
                                        [&](const Signature &output) { return output.name == head.name; });
        if (found == outputs.end())
            throw BundleFailure("the network has no output '" + head.name +
                                "' that the manifest names; export the bundle again");
        if (!kind_of(head.decoder))
            throw BundleFailure(head.name + ": no decoder '" + head.decoder + "' here; update edgemtl-runtime");
        const auto expected = expected_shape(head, manifest.inputs[0]);
        const std::vector<std::int64_t> &shape = found->shape;
        if (!expected || shape.empty()) continue;  // an output without a shape is checked when it is decoded
        bool good = shape.size() == expected->size() + 1;
        for (std::size_t i = 0; good && i < expected->size(); ++i) good = fits(shape[i + 1], (*expected)[i]);
        std::vector<std::int64_t> with_batch{1};
        with_batch.insert(with_batch.end(), expected->begin(), expected->end());
        if (!good)
            throw BundleFailure(head.name + " is " + shape_text(shape) + ", the manifest's decoder " + head.decoder +
                                " reads " + shape_text(with_batch) + "; export the bundle again");
    }
}

}  // namespace edgemtl::core
