# Sourced, from the project's root: installs what the tests here and in tests/page and tests/deploy run, once, into a cache
# folder. What is there is not installed again; what was interrupted is, because a folder gets its name only when it is whole.

cache=${TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seqgate-gateway-tests}
node_version=24.21.0 # OpenClaw asks for Node 24.
playwright_version=1.58.1

# install NAME PACKAGE...: from npm into $cache/NAME. The current folder's package.json and files, if there are any,
# are taken along. No package's install scripts run: none is needed, and some download more.
install() {
  local name=$1 place=$cache/$1 begun
  shift
  [ ! -d "$place" ] || return 0
  mkdir -p "$cache"
  begun=$(mktemp -d "$cache/.$name.XXXXXX")
  echo "installing $* into $place"
  if [ -n "${overrides:-}" ]; then cp -r "$overrides/." "$begun"; else echo '{"private":true}' > "$begun/package.json"; fi
  (cd "$begun" && npm install --no-audit --no-fund --ignore-scripts --loglevel=error "$@")
  # Another run may have been faster.
  mv -T "$begun" "$place" 2> /dev/null || rm -rf "$begun"
}

# Sets NODE to a Node 24 or newer.
install_node() {
  local arch=x64 major
  command -v npm > /dev/null || { echo "npm is needed" >&2; exit 69; }
  NODE=$(command -v node) && major=$("$NODE" -p 'process.versions.node.split(".")[0]') || major=0
  if [ "$major" -lt 24 ]; then
    case $(uname -m) in aarch64 | arm64) arch=arm64 ;; esac
    install "node-$node_version" "node-linux-$arch@$node_version"
    NODE=$cache/node-$node_version/node_modules/node-linux-$arch/bin/node
    chmod +x "$NODE"
  fi
  export NODE
}

# Sets OPENCLAW to the program of a version.
install_openclaw() {
  local overrides=
  # Two of its dependencies cannot be had from npm: see the folder.
  [ "$1" != 2026.1.30 ] || overrides=$here/openclaw-2026.1.30
  install "openclaw-$1" "openclaw@$1"
  export OPENCLAW=$cache/openclaw-$1/node_modules/openclaw/openclaw.mjs
}

# Sets PLAYWRIGHT and, where there is or can be one, CHROMIUM.
install_browser() {
  install "playwright-$playwright_version" "playwright-core@$playwright_version"
  export PLAYWRIGHT=$cache/playwright-$playwright_version/node_modules/playwright-core/index.mjs
  if ! find_chromium > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "installing chromium"
    (apt-get update && apt-get install -y --no-install-recommends chromium) > /dev/null 2>&1 || true
  fi
  CHROMIUM=$(find_chromium) || true
  export CHROMIUM
}

find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
