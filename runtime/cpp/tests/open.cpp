// Opens the bundles whose folders are read from standard input, a line each, and prints status and line of each.
#include <iostream>
#include <string>

#include "edgemtl/edgemtl.h"

int main() {
    for (std::string folder; std::getline(std::cin, folder);) {
        edgemtl_options options = edgemtl_default_options();
        options.threads = 1;
        edgemtl_network *network = nullptr;
        const edgemtl_status status = edgemtl_open(folder.c_str(), &options, &network);
        std::cout << status << '\t' << (status == EDGEMTL_OK ? "" : edgemtl_last_error()) << std::endl;
        edgemtl_close(network);
    }
}
