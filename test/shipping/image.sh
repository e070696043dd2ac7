#!/usr/bin/env bash
# Builds the Dockerfile, runs what comes out as README and compose.yaml do, and looks at it from outside. The last line is
# "N passed, N failed".
#
# Where no registry can be reached: as root on Debian it installs what it needs, starts a Docker daemon of its own, which
# touches neither the host's firewall nor another daemon, and stands in for the images that the Dockerfile names: Debian
# from its packages, Node from npm. With --host-docker it takes the Docker at hand and the real images.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly IMAGE=sandbox-orchestrator
# What may come on top of the Debian image: Node's binary is 125 MB of it.
readonly LIMIT_MB=180
# As README runs it.
readonly HARDENED=(--read-only --cap-drop ALL --security-opt no-new-privileges --memory 256m --pids-limit 64)

work=$(mktemp -d)
export COMPOSE_PROJECT_NAME="image-test-$$"
own=$COMPOSE_PROJECT_NAME # the name of the container and of its network
dockerd_pid=
compose=()

clean_up() {
  docker rm --force --volumes "$own" >/dev/null 2>&1 || true
  [ ${#compose[@]} -eq 0 ] || "${compose[@]}" down --timeout 1 >/dev/null 2>&1 || true
  docker network rm "$own" >/dev/null 2>&1 || true
  if [ -n "$dockerd_pid" ]; then
    kill "$dockerd_pid" 2>/dev/null || true
    wait "$dockerd_pid" || true
    umount "$work"/exec/netns/* 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '== %s\n' "$*" >&2; }

# --- a daemon, and the images that it cannot pull ---------------------------------------------------------------------

install_what_is_missing() {
  local packages=()
  command -v dockerd >/dev/null || packages+=(docker.io)
  command -v mmdebstrap >/dev/null || packages+=(mmdebstrap)
  docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || packages+=(docker-compose)
  [ ${#packages[@]} -gt 0 ] || return 0
  step "install ${packages[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >"$work/apt.log" 2>&1 ||
    { cat "$work/apt.log" && return 1; }
}

start_daemon() {
  step 'start a Docker daemon'
  export DOCKER_HOST="unix://$work/docker.sock"
  dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" \
    --bridge none --iptables=false --ip6tables=false >"$work/dockerd.log" 2>&1 &
  dockerd_pid=$!
  for _ in {1..100}; do
    docker version >/dev/null 2>&1 && return
    kill -0 "$dockerd_pid" 2>/dev/null || break
    sleep 0.2
  done
  tail -20 "$work/dockerd.log"
  return 1
}

# The default of one of the Dockerfile's arguments.
argument() { sed -nE "s/^ARG $1=(.+)$/\1/p" Dockerfile; }

# A file into the stand-in, under the path that it has here.
carry() {
  [ ! -f "$1" ] || install -D --mode 644 "$1" "$work/node$1"
}

stand_in_images() {
  local debian node version certificates
  debian=$(argument BASE)
  node=$(argument NODE)
  version=${node#node:}
  version=${version%%-*}

  step "stand in for $debian"
  # Without what Debian's slim images leave out.
  mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$(sed -E 's/^debian:([a-z]+).*/\1/' <<<"$debian")" - |
    docker import - "$debian" >/dev/null

  step "stand in for $node"
  local prefix="$work/node/usr/local"
  mkdir -p "$prefix"/{bin,lib/node_modules,etc}
  npm pack --silent --pack-destination "$work" "node-$(node -p 'process.platform')-$(node -p 'process.arch')@$version" >/dev/null
  tar -xzf "$work"/node-*.tgz -C "$prefix/bin" --strip-components 2 package/bin/node
  cp -r "$(npm root --global)/npm" "$prefix/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$prefix/bin/npm"
  # npm has to reach in there what it reaches here, by the same configuration.
  cat "$(npm config get globalconfig)" "$(npm config get userconfig)" >"$prefix/etc/npmrc" 2>/dev/null || true
  certificates=${NODE_EXTRA_CA_CERTS:-}
  carry "$certificates"
  carry "$(npm config get cafile)"
  cat >"$work/node.Dockerfile" <<END
FROM $debian
COPY . /
ENV NODE_EXTRA_CA_CERTS=$certificates
END
  docker build --quiet --tag "$node" --file "$work/node.Dockerfile" "$work/node" >"$work/node.log" 2>&1 ||
    { cat "$work/node.log" && return 1; }
}

# --- the checks -------------------------------------------------------------------------------------------------------

passed=0
failed=0

# Runs a command, and says whether it did as it should; what it printed is shown where it did not. `set -e` does not hold
# in there: steps of a check are joined by &&.
check() {
  local name=$1
  shift
  if "$@" >"$work/check.log" 2>&1; then
    passed=$((passed + 1))
    echo "ok - $name"
  else
    failed=$((failed + 1))
    echo "not ok - $name"
    sed 's/^/  /' "$work/check.log"
  fi
}

not() { ! "$@"; }
equal() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" && return 1; }; }
inspect() { docker inspect --format "$1" "$2"; }
# Bounded: an image that took no arguments would serve.
run_once() {
  timeout --signal KILL 20 docker run --rm --name "$own" --network none "$@" ||
    { docker rm --force "$own" >/dev/null 2>&1 && return 1; }
}
inside() { docker exec "$own" node -p "$1"; }
address_of() { echo "http://$(docker port "$1" 3000/tcp | head -1)"; }

becomes_healthy() {
  for _ in {1..60}; do
    [ "$(inspect '{{.State.Health.Status}}' "$1")" != healthy ] || return 0
    sleep 0.5
  done
  inspect '{{json .State}}' "$1"
  docker logs "$1"
  return 1
}

build_image() {
  # --network host: a build has the network that this machine has, whatever the daemon's own is.
  docker build --network host --build-arg "VERSION=$version" --tag "$IMAGE" . >"$work/build.log" 2>&1 ||
    { tail -40 "$work/build.log" && return 1; }
}

megabytes() { echo $(($(inspect '{{.Size}}' "$1") / 1000000)); }

# Every file of the image, without the leading slash.
list_files() {
  local container
  container=$(docker create "$IMAGE")
  docker export "$container" | tar -t >"$work/files"
  docker rm "$container" >/dev/null
}

holds_runtime_packages_only() {
  diff --unified=0 --label needed --label there \
    <(npm ls --omit=dev --all --parseable --package-lock-only 2>/dev/null | sed -n "s|^$PWD/||p" | sort -u) \
    <(grep -xE 'app/(node_modules/(@[^/]+/)?[^/]+/)+package\.json' "$work/files" | sed -E 's|^app/(.*)/.*|\1|' | sort)
}

holds_no_tool() {
  ! grep -E '(^|/)(npm|npx|yarn|corepack|tsc|gcc|cc|make|python3?|curl|wget)$|/_cacache/|\.tsbuildinfo$|^app/.*\.(ts|map)$|^app/(test|src|scripts)/' \
    "$work/files"
}

cannot_write() {
  inside "
    for (const file of ['/x', '/app/x', '/tmp/x', '/etc/passwd'])
      try { require('node:fs').writeFileSync(file, ''); throw new Error('wrote ' + file) }
      catch (error) { if (!['EROFS', 'EACCES'].includes(error.code)) throw error }"
}

cannot_write_its_own_files() {
  run_once --entrypoint node "$IMAGE" -e "
    try { require('node:fs').writeFileSync('/app/x', ''); process.exit(1) }
    catch (error) { process.exit(error.code === 'EACCES' ? 0 : 1) }"
}

stops_on_sigterm() {
  local start=$SECONDS
  docker stop --time 20 "$1" >/dev/null &&
    equal "$(inspect '{{.State.ExitCode}} {{.State.OOMKilled}}' "$1")" '0 false' || return 1
  [ $((SECONDS - start)) -lt 5 ] || { echo "it took $((SECONDS - start)) s" && return 1; }
}

compose_hardens() {
  equal "$(inspect '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$1")" \
    'true [ALL] [no-new-privileges:true]' &&
    equal "$(inspect '{{(index (index .NetworkSettings.Ports "3000/tcp") 0).HostIp}}' "$1")" 127.0.0.1
}

free_port() {
  node -e "require('node:net').createServer().listen(0, '127.0.0.1', function () { console.log(this.address().port), this.close() })"
}

# --- what is run ------------------------------------------------------------------------------------------------------

if [ "${1:-}" != --host-docker ]; then
  install_what_is_missing
  start_daemon
  stand_in_images
fi

version=$(node -p 'require("./package.json").version')
step 'build the image'
check 'the Dockerfile builds' build_image
[ "$failed" -eq 0 ] || { echo "$passed passed, $failed failed" && exit 1; }

size=$(megabytes "$IMAGE")
base=$(megabytes "$(argument BASE)")
check "it is small: $size MB, of which the base is $base" [ $((size - base)) -lt "$LIMIT_MB" ]
list_files
check 'it holds the runtime dependencies, and no other package' holds_runtime_packages_only
check 'it holds no package manager, compiler, cache, source or test' holds_no_tool
check 'its label says the version' equal "$(inspect '{{index .Config.Labels "org.opencontainers.image.version"}}' "$IMAGE")" "$version"
check 'it takes arguments: --version' equal "$(run_once "$IMAGE" --version)" "$version"
check 'its user cannot write where it lives, even with a writable root' cannot_write_its_own_files

docker network create "$own" >/dev/null
docker run --detach --name "$own" --network "$own" "${HARDENED[@]}" --publish 127.0.0.1::3000 --health-interval 1s \
  "$IMAGE" >/dev/null
check 'it becomes healthy, with a read-only root and no capability' becomes_healthy "$own"
check 'it launches and kills a worker, by HTTP from the host' npx tsx test/shipping/round-trip.ts "$(address_of "$own")"
check 'it runs as its own user, not root' equal "$(inside 'process.getuid()')" 10001
check 'Node is its process 1' equal "$(inside 'require("node:fs").readlinkSync("/proc/1/exe")')" /usr/local/bin/node
check 'it can write nowhere' cannot_write
mapfile -t probe < <(inspect '{{range .Config.Healthcheck.Test}}{{println .}}{{end}}' "$IMAGE" | sed -e 1d -e '/^$/d')
check 'the health check passes' docker exec "$own" "${probe[@]}"
check 'the health check fails where nobody answers' not docker exec --env PORT=1 "$own" "${probe[@]}"
check 'SIGTERM ends it soon, with exit code 0' stops_on_sigterm "$own"

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
elif command -v docker-compose >/dev/null; then
  compose=(docker-compose)
fi
if [ ${#compose[@]} -eq 0 ]; then
  echo 'skipped: compose.yaml, there is no docker compose here'
else
  PORT=$(free_port)
  export PORT
  check 'compose.yaml is valid' "${compose[@]}" config --quiet
  check 'compose starts it' "${compose[@]}" up --detach --no-build
  container=$("${compose[@]}" ps --quiet)
  check 'compose: it becomes healthy' becomes_healthy "$container"
  check 'compose: it launches and kills a worker' npx tsx test/shipping/round-trip.ts "http://127.0.0.1:$PORT"
  check 'compose: read-only, no capability, on loopback alone' compose_hardens "$container"
  check 'compose: SIGTERM ends it soon, with exit code 0' stops_on_sigterm "$container"
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
