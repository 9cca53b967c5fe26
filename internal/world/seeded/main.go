// Command seeded prepares a build of Go programs whose random choices repeat. Go's runtime draws numbers from the kernel: it decides with
// them in which order a map is read, which case of a select goes first when several are ready, and which of the timers of one moment fires
// first. This command copies the files of the installed Go that do so into a folder, changes the copies so that they take their numbers
// from the seed in the environment variable KISGRID_WORLD_RANDOM, and writes a file for the flag -overlay of go build. Goroutines are also
// no longer interrupted when they have run for 10 ms, and keep their processor when the kernel takes long to answer. A program that is built so, without the variable, behaves as before.
//
//	go run ./internal/world/seeded -o bin/world
//	CGO_ENABLED=0 go test -c -overlay bin/world/overlay.json -o bin/world/world.test ./internal/world
//
// When the installed Go has other text in these files, the command says so, and writes an overlay that changes nothing: seeds then repeat
// less exactly. Run programs of this build with GOMAXPROCS=1, and never as services: their secrets can be guessed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// change is a change of one file of Go's standard library.
type change struct {
	file     string // below GOROOT/src
	from, to string // from stands there exactly once
}

// changes are all changes. They were written against Go 1.26.
var changes = []change{
	{"runtime/rand.go", "	globalRand.state.Init(*seed)\n", `	for i := argc + 1; argv_index(argv, i) != nil; i++ {
		const name = "KISGRID_WORLD_RANDOM="
		text := gostringnocopy(argv_index(argv, i))
		if len(text) <= len(name) || text[:len(name)] != name {
			continue
		}
		worldRandom.on = true
		for _, digit := range []byte(text[len(name):]) {
			worldRandom.state = worldRandom.state*31 + uint64(digit)
		}
		for i := range seed {
			seed[i] = byte(worldRandom.state >> (i % 8 * 8))
		}
	}
	globalRand.state.Init(*seed)
`},
	{"runtime/rand.go", "func rand() uint64 {\n", `func rand() uint64 {
	if worldRandom.on {
		return worldRandom.next()
	}
`},
	{"runtime/rand.go", "var readRandomFailed bool\n", `var readRandomFailed bool

// worldRandom is one stream of numbers for the whole process.
var worldRandom worldStream

type worldStream struct {
	on    bool
	state uint64
}

//go:nosplit
func (s *worldStream) next() uint64 {
	s.state += 0xa0761d6478bd642f
	hi, lo := math.Mul64(s.state, s.state^0xe7037ed1a0b428db)
	return hi ^ lo
}

//go:nosplit
func worldRand() uint32 {
	if worldRandom.on {
		return uint32(worldRandom.next())
	}
	return cheaprand()
}
`},
	{"runtime/rand.go", "	mp.cheaprand = rand()\n", "	mp.cheaprand = bootstrapRand() // threads begin when they like\n"},
	{"runtime/select.go", "		j := cheaprandn(uint32(norder + 1))\n", "		j := uint32((uint64(worldRand()) * uint64(norder+1)) >> 32)\n"},
	{"runtime/time.go", "			t.rand = cheaprand()\n", "			t.rand = worldRand()\n"},
	{"runtime/sema.go", "	s.ticket = cheaprand() | 1\n", "	s.ticket = worldRand() | 1\n"},
	{"runtime/proc.go", "func retake(now int64) uint32 {\n", "func retake(now int64) uint32 {\n	if worldRandom.on {\n		return 0\n	}\n"},
	// While packages are initialized, main would be bound to a thread: then it depends on the kernel how many threads there are, and on
	// that, where memory is.
	{"runtime/proc.go", "	lockOSThread()\n\n	if mp != &m0 {\n", "	if !worldRandom.on {\n		lockOSThread()\n	}\n\n	if mp != &m0 {\n"},
	{"runtime/proc.go", "	needUnlock := true\n", "	needUnlock := !worldRandom.on\n"},
	{"runtime/proc.go", "	needUnlock = false\n	unlockOSThread()\n", "	if needUnlock {\n		needUnlock = false\n		unlockOSThread()\n	}\n"},
	{"internal/sync/mutex.go", "	starvationThresholdNs = 1e6\n", "	starvationThresholdNs = 1e15\n"},
}

func main() {
	out := flag.String("o", "bin/world", "`folder` for overlay.json and the changed files")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "seeded:", err)
		os.Exit(1)
	}
}

// run writes the overlay into a folder.
func run(out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output() //nolint:noctx // the command ends at once
	if err != nil {
		return fmt.Errorf("ask go where it is installed: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src")
	files, err := changed(source, os.ReadFile)
	if err != nil {
		fmt.Fprintf(os.Stderr, "seeded: %v. The build will draw random numbers as usual, so a seed may not repeat exactly.\n", err)
		files = nil
	}
	replace := map[string]string{}
	for name, text := range files {
		copied := filepath.Join(out, strings.ReplaceAll(name, "/", "_")+".txt") // no Go file of this module
		if err := writeIfChanged(copied, text); err != nil {
			return err
		}
		replace[filepath.Join(source, filepath.FromSlash(name))] = copied
	}
	overlay, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return err
	}
	return writeIfChanged(filepath.Join(out, "overlay.json"), overlay)
}

// changed returns the changed files by their names below source.
func changed(source string, read func(string) ([]byte, error)) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, c := range changes {
		text, known := files[c.file]
		if !known {
			var err error
			if text, err = read(filepath.Join(source, filepath.FromSlash(c.file))); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(c.from)); n != 1 {
			return nil, fmt.Errorf("the file %s of this Go has %d times, not once: %s", c.file, n, strings.TrimSpace(c.from))
		}
		files[c.file] = bytes.Replace(text, []byte(c.from), []byte(c.to), 1)
	}
	return files, nil
}

// writeIfChanged writes a file, unless it has this text already: the build's cache looks at the text, and at times.
func writeIfChanged(name string, text []byte) error {
	before, err := os.ReadFile(name)
	if err == nil && bytes.Equal(before, text) {
		return nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}
