/* The header is C99, and its functions answer wrong calls with a status and a line. */
#include <string.h>

#include "edgemtl/edgemtl.h"

#define EXPECT(condition) \
    if (!(condition)) return __LINE__

int main(void) {
    edgemtl_network *network = (edgemtl_network *)1;
    edgemtl_options options = edgemtl_default_options();
    edgemtl_result *result = NULL;
    edgemtl_head head;
    EXPECT(strlen(edgemtl_last_error()) == 0);
    EXPECT(strcmp(edgemtl_version(), "0.1.0") == 0);
    EXPECT(edgemtl_open("/nowhere/at/all", NULL, &network) == EDGEMTL_ERROR_BUNDLE);
    EXPECT(network == NULL);
    EXPECT(strcmp(edgemtl_last_error(),
                  "/nowhere/at/all: no bundle here (there is no such folder); make one with `edgemtl export`") == 0);
    EXPECT(edgemtl_open(NULL, NULL, &network) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(edgemtl_open("/", NULL, NULL) == EDGEMTL_ERROR_ARGUMENT);
    options.size = 1;
    EXPECT(edgemtl_open("/", &options, &network) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(edgemtl_run(NULL, NULL, 0, &result) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(strcmp(edgemtl_last_error(), "network is NULL") == 0);
    EXPECT(edgemtl_get_head(NULL, 0, &head) == EDGEMTL_ERROR_ARGUMENT);
    EXPECT(edgemtl_head_count(NULL) == 0 && edgemtl_input_count(NULL) == 0);
    edgemtl_close(NULL);
    edgemtl_free_result(NULL);
    return 0;
}
