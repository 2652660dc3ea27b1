#!/bin/sh
# The page of `sanawm camera plot --html` in a real browser: it must draw, play, turn under the pointer, go to a frame,
# and fetch nothing. Needs Debian's chromium; not part of `make test`.
#
#   tests/interop/viewer.sh [build/sanawm] [chromium]
set -eu
program=${1:-build/sanawm}
browser=${2:-chromium}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" camera make orbit --radius 2 --frames 81 -o "$work/orbit.npy" >/dev/null 2>&1
"$program" camera make there-and-back --frames 81 -o "$work/return.npy" >/dev/null 2>&1
"$program" camera plot "$work/orbit.npy" "$work/return.npy" --html "$work/page.html" >/dev/null 2>&1

# Nothing in the page names another place.
if grep -nE 'https?://|//[a-z]+\.|import |fetch\(|XMLHttpRequest|src=' "$work/page.html"; then
    echo "viewer: the page refers to something outside itself" >&2
    exit 1
fi

# The same page with a script behind its own that acts like a user and writes down what it sees.
sed 's|</body>||; s|</html>||' "$work/page.html" >"$work/acted.html"
cat >>"$work/acted.html" <<'PAGE'
<script>
const told = {}, space = document.getElementById('space'), time = document.getElementById('time');
const point = (target, kind, x, y, more) => target.dispatchEvent(
    new PointerEvent(kind, {pointerId: 1, clientX: x, clientY: y, buttons: 1, bubbles: true, ...more}));
const inked = canvas => {
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let i = 0; i < pixels.length; i += 4) seen.add(pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2]);
    return seen.size;
};
told.paths = document.documentElement.dataset.ready;
told.playing = viewer.state.playing;
const azimuth = viewer.state.azimuth, elevation = viewer.state.elevation;
point(space, 'pointerdown', 300, 300);
point(space, 'pointermove', 350, 320);
point(space, 'pointerup', 350, 320);
told.turned = (azimuth - viewer.state.azimuth).toFixed(3) + ',' + (viewer.state.elevation - elevation).toFixed(3);
const target = [...viewer.state.target];
point(space, 'pointerdown', 300, 300);
point(space, 'pointermove', 340, 300, {shiftKey: true});
point(space, 'pointerup', 340, 300);
told.moved = viewer.state.target.some((value, i) => value !== target[i]);
const away = viewer.state.away;
space.dispatchEvent(new WheelEvent('wheel', {deltaY: -200, cancelable: true}));
told.zoomed = viewer.state.away < away;
dispatchEvent(new KeyboardEvent('keydown', {key: 'End'}));
told.end = viewer.state.frame;
dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));
told.left = viewer.state.frame;
point(time, 'pointerdown', time.getBoundingClientRect().left, 10);
told.start = viewer.state.frame;
document.querySelector('[data-view=top]').click();
viewer.draw();
told.colors = ['space', 'eye', 'time'].every(id => inked(document.getElementById(id)) > 8);
document.querySelectorAll('#legend button')[1].click();
told.hidden = viewer.paths.map(path => path.visible).join();
told.text = document.getElementById('numbers').textContent.includes('frame 0 of 80');
document.body.dataset.told = Object.entries(told).map(([key, value]) => key + '=' + value).join(' ');
</script></body></html>
PAGE
told=$("$browser" --headless --no-sandbox --disable-gpu --window-size=1280,800 --virtual-time-budget=3000 \
    --dump-dom "file://$work/acted.html" 2>"$work/log" | sed -n 's/.*data-told="\([^"]*\)".*/\1/p')
expected="paths=2 playing=true turned=20.000,8.000 moved=true zoomed=true end=80 left=79 start=0 colors=true hidden=true,false text=true"
if [ "$told" != "$expected" ]; then
    printf 'viewer: the page behaves differently\n  found    %s\n  expected %s\n' "$told" "$expected" >&2
    cat "$work/log" >&2
    exit 1
fi
echo "viewer: drawn, turned, moved, zoomed and played as expected ($("$browser" --version 2>/dev/null))"
