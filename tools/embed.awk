# A text file as a C string: awk -v name=swm_viewer_html -v header=camera/html.h -f tools/embed.awk FILE
BEGIN { print "/* Made by tools/embed.awk. */\n#include \"" header "\"\n\nconst char " name "[] =" }
{ gsub(/\\/, "&&"); gsub(/["?]/, "\\\\&"); print "    \"" $0 "\\n\"" }
END { print "    ;" }
