/* Camera paths as one page of HTML that plays them: nothing else is needed to open it, and it fetches nothing. Owns the
 * numbers that go into it; the page itself is viewer.html, which the build embeds. */
#ifndef SWM_HTML_H
#define SWM_HTML_H

#include "camera/plot.h"

enum { SWM_HTML_MOST_POSES = 100000 }; /* of all paths together */

/* The page's text; free with free(), NULL on failure. Of the options the size is not used. Options may be NULL. */
char *swm_camera_html(const swm_plot_path *paths, int count, const swm_plot_options *options, swm_error *error);

/* viewer.html as a string; the script in it names the place of the data. */
extern const char swm_viewer_html[];

#endif
