/* edgemtl: run a bundle that `edgemtl export` wrote, from C. The C++ interface is edgemtl.hpp, over this one.
 *
 * A network is opened from a bundle's folder, whose every byte is checked first, as Python's runtime does. It takes
 * images with capture times and returns results of every head in the pixels of one camera.
 *
 * Failures: every function that can fail returns a status; `edgemtl_last_error` has the line that says what was found,
 * where, and what to do. No function throws. A handle that is returned through a pointer is NULL after a failure.
 * Functions that free take NULL.
 *
 * Threads: any thread may use a network. A run waits for the one in work; thresholds are those of the moment when it
 * begins. Close a network when no thread uses it any more. A result belongs to whoever got it, and one thread at a time
 * may use it; it outlives its network.
 *
 * Lifetimes: what a function returns by pointer lives as long as what it is of: names of inputs, heads and classes as
 * long as the network, values as long as the result. Texts are UTF-8, and names are equal when their bytes are.
 *
 * Structs may grow with the library's soname, SOVERSION 0.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EDGEMTL_EDGEMTL_H
#define EDGEMTL_EDGEMTL_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(EDGEMTL_BUILDING)
#define EDGEMTL_API __declspec(dllexport)
#elif defined(_WIN32)
#define EDGEMTL_API __declspec(dllimport)
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

/* The line of this thread's last failure, until its next one; "" before the first. */
EDGEMTL_API const char *edgemtl_last_error(void);

/* The version of this library, as "0.1.0". */
EDGEMTL_API const char *edgemtl_version(void);

typedef struct edgemtl_network edgemtl_network;
typedef struct edgemtl_result edgemtl_result;

typedef struct edgemtl_options {
    size_t size;           /* sizeof(edgemtl_options) */
    const char *precision; /* "fp32" (the default), "fp16" or "int8"; of those that the bundle has, no other is taken */
    const char *provider;  /* of ONNX Runtime: "cpu" (the default), "cuda" or "tensorrt", on the first GPU; no other is
                              taken where it is not there */
    const char *library;   /* the file of ONNX Runtime; NULL: $EDGEMTL_ONNXRUNTIME, then libonnxruntime.so */
    int threads;           /* 0: all usable cores but one */
    const char *plan;      /* NULL, or a plan of TensorRT that `edgemtl-runtime build BUNDLE --backend tensorrt
                              --engine-out FILE` wrote of this bundle on this machine: TensorRT computes then, where this
                              library was built with it. A plan is code: take nobody else's. */
} edgemtl_options;

/* The defaults, of which a caller changes what it wants otherwise. */
EDGEMTL_API edgemtl_options edgemtl_default_options(void);

/* Open the bundle in a folder; `options` may be NULL. */
EDGEMTL_API edgemtl_status edgemtl_open(const char *folder, const edgemtl_options *options, edgemtl_network **network);

/* Close a network. */
EDGEMTL_API void edgemtl_close(edgemtl_network *network);

typedef struct edgemtl_input {
    const char *name;            /* of the camera that feeds it */
    const char *modality;        /* "rgb": colour; "ir" and any other: one channel */
    int height, width, channels; /* of the network; images may have any size, and are letterboxed to this one */
    int may_be_missing;          /* whether the network was trained to do without this camera's image */
} edgemtl_input;

typedef enum edgemtl_kind {
    EDGEMTL_BOXES = 1,
    EDGEMTL_LABEL_MAP = 2,  /* an index into the head's classes for every pixel; there is no other value */
    EDGEMTL_DEPTH_MAP = 3,  /* metres along the optical axis, of every pixel; where the head's only class is "relative",
                               depths up to an unknown factor */
    EDGEMTL_NORMAL_MAP = 4, /* unit vectors: x right, y down, z forward */
    EDGEMTL_EDGE_MAP = 5,   /* scores in [0, 1]; an edge from the threshold on */
    EDGEMTL_ATTRIBUTES = 6, /* a score in [0, 1] for every class; it holds from its threshold on */
    EDGEMTL_SCALAR_MAP = 7, /* a number for every pixel, in the head's units */
    EDGEMTL_VECTOR_MAP = 8, /* a component for every class of the head, for every pixel */
    EDGEMTL_POINTS = 9,     /* places with a class each, such as feet */
    EDGEMTL_SCALARS = 10,   /* a number for every class */
    EDGEMTL_TENSOR = 11     /* an output as it is, in the network's own layout */
} edgemtl_kind;

typedef struct edgemtl_head {
    const char *name;
    const char *task; /* "boxes", "semantic", "depth" …, or one of the exporter's own */
    edgemtl_kind kind;
    const char *units; /* "m", "px" …; "" where there are none */
    const char *const *classes;
    size_t class_count;
    int has_threshold; /* whether `edgemtl_set_threshold` takes it: boxes, points, attributes and edges */
} edgemtl_head;

EDGEMTL_API const char *edgemtl_name(const edgemtl_network *network);
EDGEMTL_API const char *edgemtl_licence(const edgemtl_network *network);
EDGEMTL_API size_t edgemtl_input_count(const edgemtl_network *network);
EDGEMTL_API edgemtl_status edgemtl_get_input(const edgemtl_network *network, size_t index, edgemtl_input *input);
EDGEMTL_API size_t edgemtl_head_count(const edgemtl_network *network);
EDGEMTL_API edgemtl_status edgemtl_get_head(const edgemtl_network *network, size_t index, edgemtl_head *head);

/* Set the least score of a head's results: of one class, or of all of them where `class_name` is NULL, whatever was set
 * before. It lies from 0 to 1, both included; a result of that very score counts. */
EDGEMTL_API edgemtl_status edgemtl_set_threshold(edgemtl_network *network, const char *head, const char *class_name,
                                                 float threshold);

typedef enum edgemtl_pixels {
    EDGEMTL_RGB8 = 1,
    EDGEMTL_BGR8 = 2,  /* OpenCV's order */
    EDGEMTL_GREY8 = 3, /* one channel; for a colour input it is repeated */
    EDGEMTL_GREY16 = 4 /* counts of a thermal camera as it delivers them, in this machine's byte order: the bundle's
                          thermal range maps them to 8 bits */
} edgemtl_pixels;

typedef struct edgemtl_image {
    const char *camera; /* the name of an input */
    const void *data;
    int height, width;     /* any, from 1 to 16384 */
    size_t row_bytes;      /* from one row to the next, so that rows may end in padding; 0: rows follow one another */
    edgemtl_pixels pixels; /* RGB8 and BGR8 for a thermal camera where the three channels are equal */
    int64_t stamp_ns;      /* when it was captured, on any clock that the cameras share; it is reported, not judged */
} edgemtl_image;

/* Run the network on images that were captured together, one of each camera, in any order. Images of two cameras must
 * show the same view: they are registered to each other before (Python's runtime does that by a rig). A camera that has
 * no image is left out of the array; where its input may not be missing, that is an EDGEMTL_ERROR_ARGUMENT, as are an
 * unknown camera, two images of one, and none at all. Images are only read, and not kept. */
EDGEMTL_API edgemtl_status edgemtl_run(edgemtl_network *network, const edgemtl_image *images, size_t count,
                                       edgemtl_result **result);
EDGEMTL_API void edgemtl_free_result(edgemtl_result *result);

/* The camera in whose pixels results are: the first of the bundle's inputs that has an image. While that camera is
 * missing they are in another's, so ask for every result. */
EDGEMTL_API const char *edgemtl_result_camera(const edgemtl_result *result);
EDGEMTL_API int edgemtl_result_height(const edgemtl_result *result); /* of that camera's image */
EDGEMTL_API int edgemtl_result_width(const edgemtl_result *result);
EDGEMTL_API int64_t edgemtl_result_camera_stamp_ns(const edgemtl_result *result); /* of that camera's image */
EDGEMTL_API int64_t edgemtl_result_stamp_ns(const edgemtl_result *result);        /* of the latest image */
EDGEMTL_API int64_t
edgemtl_result_skew_ns(const edgemtl_result *result); /* from the earliest to the latest; 0 of one */

typedef struct edgemtl_box {
    float x1, y1, x2, y2; /* edges in pixels of the camera, within its image: pixel i reaches from i to i + 1 */
    float score;
    int32_t class_index;
} edgemtl_box;

typedef struct edgemtl_point {
    float x, y, score;
    int32_t class_index;
} edgemtl_point;

typedef enum edgemtl_element {                   /* numbered as ONNX does */
                               EDGEMTL_NONE = 0, /* no values, or of another type */
                               EDGEMTL_FLOAT32 = 1,
                               EDGEMTL_UINT8 = 2,
                               EDGEMTL_INT64 = 7
} edgemtl_element;

typedef struct edgemtl_head_result {
    edgemtl_kind kind;
    const edgemtl_box *boxes; /* of boxes of every class, best first, suppressed where the head needs it */
    const edgemtl_point *points;
    size_t count;            /* of boxes or points; where it is 0, do not follow the pointer */
    const void *values;      /* of maps, row by row; of attributes, scalars and tensors; else NULL */
    edgemtl_element element; /* of `values`: label maps have uint8, all but tensors float32 */
    const int64_t *shape;    /* of `values`: (height, width) of the camera, (height, width, components), (classes) … */
    size_t dimensions;
    const float *thresholds; /* of this run: of edge maps one, of attributes one for every class; else NULL. Boxes and
                                points below theirs are not among the results */
} edgemtl_head_result;

/* The results of one head. */
EDGEMTL_API edgemtl_status edgemtl_result_head(const edgemtl_result *result, const char *head,
                                               edgemtl_head_result *head_result);

#ifdef __cplusplus
}
#endif
#endif
