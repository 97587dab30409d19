/* SwiftPM wants one source file in a C target. */
#include "contract.h"
