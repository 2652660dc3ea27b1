/* The version of the library, which the Makefile knows. Apart from sanawm.c, so that programs that only ask for it need
 * none of what generation needs. */
#include "sanawm.h"

const char *swm_version(void) { return SWM_VERSION; }
