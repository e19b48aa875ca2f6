/* edgemtl: run a bundle that `edgemtl export` wrote, from C. The C++ interface is edgemtl.hpp, over this one.
 *
 * A network is opened from a bundle's folder, whose every byte is checked first, as Python's runtime does. It takes
 * images with capture times and returns results of every head in the pixels of the camera that the result names.
 *
 * Every function that can fail returns a status; `edgemtl_last_error` has the line that says what was found, where, and
 * what to do, of the calling thread's last failure. No function throws. Texts are UTF-8.
 *
 * Threads: any thread may use a network; runs wait for one another. A result belongs to whoever got it, and one thread
 * at a time may use it; it outlives its network. What a function returns by pointer lives as long as what it is of.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EDGEMTL_EDGEMTL_H
#define EDGEMTL_EDGEMTL_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define EDGEMTL_API __declspec(dllexport)
#else
#define EDGEMTL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum edgemtl_status {
    EDGEMTL_OK = 0,
    EDGEMTL_ERROR_ARGUMENT = 1, /* of a call: a camera, head or class that is not there, a threshold beyond [0, 1] */
    EDGEMTL_ERROR_BUNDLE = 2,   /* missing, damaged, newer than this library, or not one that edgemtl could write */
    EDGEMTL_ERROR_ENGINE = 3,   /* ONNX Runtime is not found, does not start, or fails in the network */
    EDGEMTL_ERROR_IMAGE = 4,    /* an image that is not of its camera's modality */
    EDGEMTL_ERROR_MEMORY = 5
} edgemtl_status;

/* The line of this thread's last failure; "" before the first. */
EDGEMTL_API const char *edgemtl_last_error(void);

/* The version of this library, as "0.1.0". */
EDGEMTL_API const char *edgemtl_version(void);

typedef struct edgemtl_network edgemtl_network;
typedef struct edgemtl_result edgemtl_result;

typedef struct edgemtl_options {
    size_t size;           /* sizeof(edgemtl_options) */
    const char *precision; /* "fp32", "fp16" or "int8" */
    const char *provider;  /* of ONNX Runtime: "cpu", "cuda" or "tensorrt" */
    const char *library;   /* the file of ONNX Runtime; NULL: $EDGEMTL_ONNXRUNTIME, then libonnxruntime.so */
    int threads;           /* 0: all usable cores but one */
    const char *plan;      /* NULL, or a plan of TensorRT that `edgemtl-runtime build BUNDLE --backend tensorrt
                              --engine-out FILE` wrote of this bundle on this machine: TensorRT computes then, where this
                              library was built with it. A plan is code: take nobody else's. */
} edgemtl_options;

/* Options to change some of. */
EDGEMTL_API edgemtl_options edgemtl_default_options(void);

/* Open the bundle in a folder; `options` may be NULL. */
EDGEMTL_API edgemtl_status edgemtl_open(const char *folder, const edgemtl_options *options, edgemtl_network **network);

/* Close a network, after the run in work; NULL is nothing. */
EDGEMTL_API void edgemtl_close(edgemtl_network *network);

typedef struct edgemtl_input {
    const char *name;     /* of the camera that feeds it */
    const char *modality; /* "rgb": colour; any other has one channel */
    int height, width, channels;
    int may_be_missing; /* whether a blank frame may stand in for this camera's */
} edgemtl_input;

typedef enum edgemtl_kind {
    EDGEMTL_BOXES = 1,
    EDGEMTL_LABEL_MAP = 2,  /* a class of the head for every pixel */
    EDGEMTL_DEPTH_MAP = 3,  /* metres along the optical axis, or up to a factor where a class is "relative" */
    EDGEMTL_NORMAL_MAP = 4, /* unit vectors: x right, y down, z forward */
    EDGEMTL_EDGE_MAP = 5,   /* scores in [0, 1]; an edge from the threshold on */
    EDGEMTL_ATTRIBUTES = 6, /* a score in [0, 1] for every class; it holds from its threshold on */
    EDGEMTL_SCALAR_MAP = 7,
    EDGEMTL_VECTOR_MAP = 8, /* a component for every class */
    EDGEMTL_POINTS = 9,
    EDGEMTL_SCALARS = 10, /* a number for every class */
    EDGEMTL_TENSOR = 11   /* an output as it is */
} edgemtl_kind;

typedef struct edgemtl_head {
    const char *name;
    const char *task;
    edgemtl_kind kind;
    const char *units; /* "" where there are none */
    const char *const *classes;
    size_t class_count;
} edgemtl_head;

EDGEMTL_API const char *edgemtl_name(const edgemtl_network *network);
EDGEMTL_API const char *edgemtl_licence(const edgemtl_network *network);
EDGEMTL_API size_t edgemtl_input_count(const edgemtl_network *network);
EDGEMTL_API edgemtl_status edgemtl_get_input(const edgemtl_network *network, size_t index, edgemtl_input *input);
EDGEMTL_API size_t edgemtl_head_count(const edgemtl_network *network);
EDGEMTL_API edgemtl_status edgemtl_get_head(const edgemtl_network *network, size_t index, edgemtl_head *head);

/* Set the least score of a head's results, or of one of its classes (NULL: of all). */
EDGEMTL_API edgemtl_status edgemtl_set_threshold(edgemtl_network *network, const char *head, const char *class_name,
                                                 float threshold);

typedef enum edgemtl_pixels {
    EDGEMTL_RGB8 = 1,
    EDGEMTL_BGR8 = 2,  /* OpenCV's order */
    EDGEMTL_GREY8 = 3, /* one channel */
    EDGEMTL_GREY16 = 4 /* counts of a thermal camera */
} edgemtl_pixels;

typedef struct edgemtl_image {
    const char *camera; /* the name of an input */
    const void *data;
    int height, width;
    size_t row_bytes; /* from one row to the next; 0: rows follow one another */
    edgemtl_pixels pixels;
    int64_t stamp_ns; /* when it was captured, on any clock that the cameras share */
} edgemtl_image;

/* Run the network on images of one moment, one of each camera; those that are left out may have to be
 * (`may_be_missing`). Images are only read, and not kept. */
EDGEMTL_API edgemtl_status edgemtl_run(edgemtl_network *network, const edgemtl_image *images, size_t count,
                                       edgemtl_result **result);
EDGEMTL_API void edgemtl_free_result(edgemtl_result *result);

/* The camera in whose pixels results are: the first of the bundle's inputs that has an image. */
EDGEMTL_API const char *edgemtl_result_camera(const edgemtl_result *result);
EDGEMTL_API int64_t edgemtl_result_stamp_ns(const edgemtl_result *result); /* of the latest image */
EDGEMTL_API int64_t edgemtl_result_skew_ns(const edgemtl_result *result);  /* between the earliest and the latest */

typedef struct edgemtl_box {
    float x1, y1, x2, y2; /* pixels of the camera */
    float score;
    int32_t class_index;
} edgemtl_box;

typedef struct edgemtl_point {
    float x, y, score;
    int32_t class_index;
} edgemtl_point;

typedef enum edgemtl_element {
    EDGEMTL_NONE = 0,
    EDGEMTL_FLOAT32 = 1,
    EDGEMTL_UINT8 = 2,
    EDGEMTL_INT64 = 7
} edgemtl_element;

typedef struct edgemtl_head_result {
    edgemtl_kind kind;
    const edgemtl_box *boxes; /* of boxes, best first; else NULL */
    const edgemtl_point *points;
    size_t count;            /* of boxes or points */
    const void *values;      /* of maps, row by row; of attributes, scalars and tensors; else NULL */
    edgemtl_element element; /* of `values`: label maps have uint8, all but tensors float32 */
    const int64_t *shape;    /* of `values`: (height, width) of the camera, (height, width, components), (classes) … */
    size_t dimensions;
    const float *thresholds; /* of edge maps one, of attributes one for every class; else NULL */
} edgemtl_head_result;

EDGEMTL_API edgemtl_status edgemtl_get_result(const edgemtl_result *result, const char *head,
                                              edgemtl_head_result *head_result);

#ifdef __cplusplus
}
#endif
#endif
