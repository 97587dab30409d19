#include "baton_policy.h"
