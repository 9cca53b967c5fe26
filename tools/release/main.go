// Command release builds the files of a release, without its container images, which command images builds. The files are:
//
//   - for each platform, an archive of the programs;
//   - for each platform, a list of the modules in them (an SBOM, in CycloneDX);
//   - NOTES.md, the section of the version in CHANGELOG.md;
//   - SHA256SUMS, the checksums of all files in the folder.
//
// The same commit and the same version of Go give the same bytes on every machine.
//
//	go run ./release -o ../bin/release -root .. -version v1.2.3 -commit "$(git rev-parse HEAD)" -time "$(git log -1 --format=%ct)"
//
// The code, in reading order:
//
//   - main.go: the flags, the programs, the notes and the checksums.
//   - archive.go: the archive of one platform.
//   - sbom.go: the list of modules of one platform.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const (
	modulePath = "github.com/kisgrid/kisgrid"
	// unreleased is the section of the changelog from which a snapshot has its notes.
	unreleased = "Unreleased"
)

var (
	platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}
	programs  = []string{"kisgrid", "coordinator", "worker"}     // each is a folder in cmd/
	documents = []string{"LICENSE", "README.md", "CHANGELOG.md"} // in each archive, beside the programs
	// described is the name that git describe gives to a commit after a tag. It looks like the tag of a release candidate, and is none.
	described = regexp.MustCompile(`-[0-9]+-g[0-9a-f]+(-dirty)?$`)
	// tag is the tag of a release.
	tag = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)
)

// release is one version of the project, which is to be built.
type release struct {
	out, root       string
	version, commit string
	when            time.Time // the time of the commit, the only time that the files have in them
	snapshot        bool      // the commit has no tag; the files are for trying out
	platforms       []string
}

// main runs the command until it ends or Ctrl-C is pressed. An error ends it with exit code 1.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run parses the flags and builds the release.
func run(ctx context.Context, args []string) error {
	var r release
	var seconds int64
	fs := flag.NewFlagSet("release", flag.ExitOnError)
	fs.StringVar(&r.out, "o", "release", "`folder` for the files; files of an earlier run are replaced")
	fs.StringVar(&r.root, "root", ".", "`folder` of the module")
	fs.StringVar(&r.version, "version", "", "the `version`: a tag such as v1.2.3")
	fs.StringVar(&r.commit, "commit", "", "full hash of the `commit` that is built")
	fs.Int64Var(&seconds, "time", 0, "time of that commit, in `seconds` since 1970")
	fs.BoolVar(&r.snapshot, "snapshot", false, "build a commit without a tag: any -version will do, and the notes are the section Unreleased")
	list := fs.String("platforms", strings.Join(platforms, ","), "`list` of platforms as system/processor, with commas between them")
	_ = fs.Parse(args) // exits
	r.when, r.platforms = time.Unix(seconds, 0).UTC(), strings.Split(*list, ",")
	if err := r.check(); err != nil {
		return err
	}
	return r.build(ctx)
}

// check reports flags that do not describe a release.
func (r *release) check() error {
	switch {
	case !r.snapshot && (!tag.MatchString(r.version) || described.MatchString(r.version)):
		return fmt.Errorf("-version %q is not the tag of a release, such as v1.2.3: check out the tag, or build a snapshot", r.version)
	case r.commit == "" || r.when.Unix() == 0:
		return errors.New("-commit and -time must be given: git rev-parse HEAD and git log -1 --format=%ct print them")
	case !r.snapshot && strings.HasSuffix(r.commit, "-dirty"):
		return errors.New("files in the checkout differ from the commit: commit them, or put them away with git stash")
	}
	return nil
}

// build writes all files of the release into the folder.
func (r *release) build(ctx context.Context) error {
	changelog, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	section := strings.TrimPrefix(r.version, "v")
	if r.snapshot {
		section = unreleased
	}
	text, err := notes(string(changelog), section)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	made := []string{"NOTES.md"}
	if err := os.WriteFile(filepath.Join(r.out, made[0]), []byte(text), 0o644); err != nil {
		return err
	}
	for _, platform := range r.platforms {
		files, err := r.platform(ctx, platform)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		made = append(made, files...)
	}
	return writeSums(r.out, made)
}

// platform builds one archive and its SBOM, and returns their names.
func (r *release) platform(ctx context.Context, platform string) ([]string, error) {
	system, processor, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, errors.New("write it as system/processor, such as linux/amd64")
	}
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := strings.Join([]string{"kisgrid", r.version, system, processor}, "-")
	var files []member
	var built []*debug.BuildInfo
	for _, program := range programs {
		out := filepath.Join(dir, program)
		if err := r.compile(ctx, out, "./cmd/"+program, system, processor); err != nil {
			return nil, err
		}
		info, err := buildinfo.ReadFile(out)
		if err != nil {
			return nil, fmt.Errorf("read from which modules %s was built: %w", program, err)
		}
		built = append(built, info)
		files = append(files, member{name: program, path: out, mode: 0o755})
	}
	for _, document := range documents {
		files = append(files, member{name: document, path: filepath.Join(r.root, document), mode: 0o644})
	}
	if err := writeArchive(filepath.Join(r.out, name+".tar.gz"), name, files, r.when); err != nil {
		return nil, err
	}
	if err := writeSBOM(filepath.Join(r.out, name+".cdx.json"), r, platform, built); err != nil {
		return nil, err
	}
	fmt.Println(name)
	return []string{name + ".tar.gz", name + ".cdx.json"}, nil
}

// compile builds one program in the way of the container images: without paths, build id and C.
func (r *release) compile(ctx context.Context, out, program, system, processor string) error {
	stamp := "-s -w -buildid= -X " + modulePath + "/internal/command.Version=" + r.version + " -X " + modulePath + "/internal/command.Commit=" + r.commit
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", stamp, "-o", out, program) //nolint:gosec // it builds what it was told to
	build.Dir = r.root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+processor, "GOFLAGS=", "GOWORK=off")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build %s: %w", program, err)
	}
	return nil
}

// notes cuts the section of one version out of a changelog in the form of Keep a Changelog: "## [1.2.3] - 2026-11-30".
func notes(changelog, version string) (string, error) {
	var out []string
	within := false
	for line := range strings.Lines(changelog) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			if within {
				break
			}
			title, _, _ := strings.Cut(strings.TrimSpace(heading), " - ")
			within = strings.Trim(title, "[]") == version
			continue
		}
		if within {
			out = append(out, line)
		}
	}
	text := strings.TrimSpace(strings.Join(out, ""))
	if text == "" {
		return "", fmt.Errorf("CHANGELOG.md has no section for %s, or an empty one: give the text under Unreleased the heading ## [%s] - DATE, and commit that before the tag", version, version)
	}
	return text + "\n", nil
}

// writeSums writes the checksums of the folder's files into SHA256SUMS, in the form that sha256sum --check reads. The list made names the
// files of this release. Other files that end in .txt, such as the digests of container images, are summed too; any other file is an
// error, since somebody might publish it.
func writeSums(dir string, made []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var stray []string
	var out strings.Builder
	for _, e := range entries {
		switch {
		case e.Name() == sums:
			continue
		case !slices.Contains(made, e.Name()) && !strings.HasSuffix(e.Name(), ".txt"):
			stray = append(stray, e.Name())
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		fmt.Fprintf(&out, "%s  %s\n", hex.EncodeToString(sum[:]), e.Name())
	}
	if len(stray) > 0 {
		return fmt.Errorf("%s has files that do not belong to this release (%s): remove them, so that nobody publishes them", dir, strings.Join(stray, ", "))
	}
	return os.WriteFile(filepath.Join(dir, sums), []byte(out.String()), 0o644)
}

// sums is the name of the file of checksums.
const sums = "SHA256SUMS"

// modulesOf lists the modules from which the programs were built, each once, sorted by path and version, without the project's own.
func modulesOf(built []*debug.BuildInfo) []debug.Module {
	seen := map[string]debug.Module{}
	for _, info := range built {
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			seen[m.Path+"@"+m.Version] = *m
		}
	}
	out := make([]debug.Module, 0, len(seen))
	for _, m := range seen {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b debug.Module) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
	})
	return out
}
