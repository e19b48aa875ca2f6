#include "bundle.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "failure.hpp"
#include "onnx_check.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr std::size_t MAX_MANIFEST_BYTES = 4 << 20;
constexpr const char *MANIFEST = "manifest.json";
const std::map<std::string, std::string> MODELS{
    {"fp32", "model.onnx"}, {"fp16", "model.fp16.onnx"}, {"int8", "model.int8.onnx"}};

enum class PathKind { nothing, folder, file, other };

PathKind kind_of_path(const std::string &path, bool follow = true) {
    struct stat status{};
    if ((follow ? stat : lstat)(path.c_str(), &status) != 0) return PathKind::nothing;
    return S_ISDIR(status.st_mode) ? PathKind::folder : S_ISREG(status.st_mode) ? PathKind::file : PathKind::other;
}

std::optional<std::string> read_file(const std::string &path, std::size_t most) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) return std::nullopt;
    std::string bytes;
    stream.seekg(0, std::ios::end);
    const std::streamoff size = stream.tellg();
    if (size < 0) return std::nullopt;
    bytes.resize(std::min(static_cast<std::size_t>(size), most));
    stream.seekg(0);
    stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<std::size_t>(stream.gcount()));
    return bytes;
}

std::string why_no_bundle(const std::string &folder) {
    switch (kind_of_path(folder)) {
        case PathKind::nothing: return "(there is no such folder); make one with `edgemtl export`";
        case PathKind::folder: return std::string("(") + MANIFEST + " is missing); make one with `edgemtl export`";
        default: return "(it is a file); name the folder of a bundle";
    }
}

std::string without_end(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

}  // namespace

Bundle open_bundle(const std::string &given, const std::string &precision) {
    const std::string folder = without_end(given), file = folder + "/" + MANIFEST;
    if (kind_of_path(folder) != PathKind::folder || kind_of_path(file) != PathKind::file)
        throw BundleFailure(folder + ": no bundle here " + why_no_bundle(folder));
    const auto bytes = read_file(file, MAX_MANIFEST_BYTES + 1);
    if (!bytes) throw BundleFailure(file + ": cannot be read (" + std::strerror(errno) + ")");
    if (bytes->size() > MAX_MANIFEST_BYTES)
        throw BundleFailure(file + ": larger than 4 MB, which is no such file; look at what it is");
    Bundle bundle{read_manifest(*bytes, file), "", ""};
    const auto wanted = MODELS.find(precision);
    for (const auto &[name, hash] : bundle.manifest.files) {
        if (!is_plain_name(name))
            throw BundleFailure(file + ": " + quoted(name, 100) + " is not a plain file name; do not use this bundle");
        const std::string part = folder + "/" + name;
        if (kind_of_path(part, false) != PathKind::file)
            throw BundleFailure(folder + ": " + name + " is missing; copy the whole bundle again");
        auto content = read_file(part, std::size_t{1} << 32);
        if (!content || sha256(*content) != hash)
            throw BundleFailure(part + ": damaged (its SHA-256 is not the manifest's); copy the bundle again");
        for (const auto &[name_of_precision, model] : MODELS)
            if (model == name) check_onnx(*content, part);
        if (wanted != MODELS.end() && wanted->second == name)
            bundle.model_file = part, bundle.model = std::move(*content);
    }
    if (bundle.manifest.files.count("model.onnx") == 0)
        throw BundleFailure(file + ": lists no model.onnx; export the bundle again");
    if (bundle.model_file.empty()) {
        std::vector<std::string> present;
        for (const char *name : {"fp32", "fp16", "int8"})
            if (bundle.manifest.files.count(MODELS.at(name))) present.emplace_back(name);
        const auto why = bundle.manifest.rejected.find(precision);
        throw BundleFailure(folder + ": holds no " + precision + " network" +
                            (why == bundle.manifest.rejected.end() ? "" : ": " + why->second) + "; it has " +
                            joined(present, ", "));
    }
    return bundle;
}

}  // namespace edgemtl::core
