// The C functions: they call the library's inside, and turn what it throws into a status and a line.
#include <exception>
#include <new>
#include <string>

#include "edgemtl/edgemtl.h"
#include "failure.hpp"
#include "network.hpp"
#include "text.hpp"

#ifndef EDGEMTL_VERSION
#define EDGEMTL_VERSION "0.0.0"
#endif

using namespace edgemtl::core;

struct edgemtl_network {
    Network network;
};

struct edgemtl_result {
    Result result;
};

namespace {

thread_local std::string last_error;

edgemtl_status failed(edgemtl_status status, const char *line) noexcept {
    try {
        last_error = line;
    } catch (...) {
        last_error.clear();
    }
    return status;
}

template <class Call>
edgemtl_status guarded(Call call) noexcept {
    try {
        call();
        return EDGEMTL_OK;
    } catch (const Failure &failure) {
        return failed(failure.status, failure.what());
    } catch (const std::bad_alloc &) {
        return failed(EDGEMTL_ERROR_MEMORY, "not enough memory");
    } catch (const std::exception &error) {
        return failed(EDGEMTL_ERROR_ENGINE, error.what());
    } catch (...) {
        return failed(EDGEMTL_ERROR_ENGINE, "an unknown failure");
    }
}

void need(const void *pointer, const char *name) {
    if (!pointer) throw Failure(EDGEMTL_ERROR_ARGUMENT, std::string(name) + " is NULL");
}

std::size_t checked(std::size_t index, std::size_t count, const char *what) {
    if (index >= count)
        throw Failure(EDGEMTL_ERROR_ARGUMENT,
                      std::string(what) + " " + std::to_string(index) + " of " + std::to_string(count));
    return index;
}

}  // namespace

const char *edgemtl_last_error(void) { return last_error.c_str(); }

const char *edgemtl_version(void) { return EDGEMTL_VERSION; }

edgemtl_options edgemtl_default_options(void) { return {sizeof(edgemtl_options), "fp32", "cpu", nullptr, 0, nullptr}; }

edgemtl_status edgemtl_open(const char *folder, const edgemtl_options *given, edgemtl_network **network) {
    return guarded([&] {
        need(network, "network");
        *network = nullptr;
        need(folder, "folder");
        const edgemtl_options options = given ? *given : edgemtl_default_options();
        if (options.size != sizeof(edgemtl_options))
            throw Failure(EDGEMTL_ERROR_ARGUMENT,
                          "options of another version of edgemtl.h; begin with edgemtl_default_options()");
        EngineOptions engine;
        engine.provider = options.provider ? options.provider : "cpu";
        engine.library = options.library ? options.library : "";
        engine.threads = options.threads;
        engine.plan = options.plan ? options.plan : "";
        *network = new edgemtl_network{{folder, options.precision ? options.precision : "fp32", engine}};
    });
}

void edgemtl_close(edgemtl_network *network) { delete network; }

const char *edgemtl_name(const edgemtl_network *network) {
    return network ? network->network.manifest().name.c_str() : "";
}

const char *edgemtl_licence(const edgemtl_network *network) {
    return network ? network->network.manifest().licence.c_str() : "";
}

size_t edgemtl_input_count(const edgemtl_network *network) {
    return network ? network->network.manifest().inputs.size() : 0;
}

edgemtl_status edgemtl_get_input(const edgemtl_network *network, size_t index, edgemtl_input *out) {
    return guarded([&] {
        need(network, "network"), need(out, "input");
        const auto &inputs = network->network.manifest().inputs;
        const Input &input = inputs[checked(index, inputs.size(), "input")];
        *out = {input.name.c_str(), input.modality.c_str(), input.height,
                input.width,        input.channels,         input.may_be_missing};
    });
}

size_t edgemtl_head_count(const edgemtl_network *network) {
    return network ? network->network.manifest().heads.size() : 0;
}

edgemtl_status edgemtl_get_head(const edgemtl_network *network, size_t index, edgemtl_head *out) {
    return guarded([&] {
        need(network, "network"), need(out, "head");
        const auto &heads = network->network.manifest().heads;
        const Head &head = heads[checked(index, heads.size(), "head")];
        const auto &classes = network->network.class_names(index);
        *out = {head.name.c_str(), head.task.c_str(), kind_of(head.decoder).value(), head.units.c_str(),
                classes.data(),    classes.size(),    has_thresholds(head)};
    });
}

edgemtl_status edgemtl_set_threshold(edgemtl_network *network, const char *head, const char *class_name,
                                     float threshold) {
    return guarded([&] {
        need(network, "network"), need(head, "head");
        network->network.set_threshold(head, class_name, threshold);
    });
}

edgemtl_status edgemtl_run(edgemtl_network *network, const edgemtl_image *images, size_t count,
                           edgemtl_result **result) {
    return guarded([&] {
        need(result, "result");
        *result = nullptr;
        need(network, "network");
        if (count) need(images, "images");
        for (std::size_t i = 0; i < count; ++i) need(images[i].camera, "an image's camera");
        *result = new edgemtl_result{network->network.run(images, count)};
    });
}

void edgemtl_free_result(edgemtl_result *result) { delete result; }

const char *edgemtl_result_camera(const edgemtl_result *result) { return result ? result->result.camera.c_str() : ""; }

int edgemtl_result_height(const edgemtl_result *result) { return result ? result->result.height : 0; }

int edgemtl_result_width(const edgemtl_result *result) { return result ? result->result.width : 0; }

int64_t edgemtl_result_camera_stamp_ns(const edgemtl_result *result) {
    return result ? result->result.camera_stamp_ns : 0;
}

int64_t edgemtl_result_stamp_ns(const edgemtl_result *result) { return result ? result->result.stamp_ns : 0; }

int64_t edgemtl_result_skew_ns(const edgemtl_result *result) { return result ? result->result.skew_ns : 0; }

edgemtl_status edgemtl_result_head(const edgemtl_result *result, const char *head, edgemtl_head_result *out) {
    return guarded([&] {
        need(result, "result"), need(head, "head"), need(out, "head_result");
        const auto found = result->result.heads.find(head);
        if (found == result->result.heads.end()) throw Failure(EDGEMTL_ERROR_ARGUMENT, "no head " + quoted(head, 100));
        const HeadResult &one = found->second;
        const bool is_boxes = one.kind == EDGEMTL_BOXES, is_points = one.kind == EDGEMTL_POINTS;
        *out = {one.kind,
                is_boxes ? one.boxes.data() : nullptr,
                is_points ? one.points.data() : nullptr,
                is_boxes ? one.boxes.size() : one.points.size(),
                is_boxes || is_points ? nullptr : one.values.data(),
                one.element,
                one.shape.data(),
                one.shape.size(),
                one.thresholds.empty() ? nullptr : one.thresholds.data()};
    });
}
