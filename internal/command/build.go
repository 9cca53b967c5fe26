package command

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// What the linker sets, as -X github.com/kisgrid/kisgrid/internal/command.Version=v1.2.3. Nothing changes them while a program runs.
var (
	// Version is the release. "dev" means that the linker was told none.
	Version = "dev"
	// Commit is the commit that the program was built from, whole, with "-dirty" behind it if files differed. Empty means that the
	// linker was told none; a build that Go stamped knows it all the same.
	Commit = ""
)

// modulePath is the module that a program of this project is built from.
const modulePath = "github.com/kisgrid/kisgrid"

// BuildInfo is one build of a program.
type BuildInfo struct {
	// Version is the release, such as "v1.2.3"; "dev" for a build that is of none.
	Version string
	// Commit is the first twelve digits of the commit, with "-dirty" behind it if files differed; empty where nobody knows it. In
	// a worker that is built from somebody's own module it is a commit of that module.
	Commit string
	// Go is the version of Go that built it, such as "go1.26.8".
	Go string
	// Platform is the system and processor that it was built for, such as "linux/amd64".
	Platform string
}

// ReadBuild tells which build this program is.
func ReadBuild() BuildInfo {
	info, _ := debug.ReadBuildInfo() // without it, what the linker set still counts
	return readBuild(info, Version, Commit)
}

// readBuild takes what the linker was told before what Go stamped. info may be nil.
func readBuild(info *debug.BuildInfo, version, commit string) BuildInfo {
	b := BuildInfo{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		info = &debug.BuildInfo{}
	}
	stamps := map[string]string{}
	for _, s := range info.Settings {
		stamps[s.Key] = s.Value
	}
	if commit == "" && stamps["vcs.revision"] != "" {
		b.Commit = stamps["vcs.revision"]
		if stamps["vcs.modified"] == "true" {
			b.Commit += dirty
		}
	}
	b.Commit = shorten(b.Commit)
	// go install …@v1.2.3 tells the linker nothing, and has no checkout whose commit Go could stamp.
	if main := info.Main; version == "dev" && b.Commit == "" && main.Path == modulePath && main.Version != "" && main.Version != "(devel)" {
		b.Version = main.Version
	}
	return b
}

const (
	dirty       = "-dirty"
	shortCommit = 12 // digits, as in Go's own pseudo-versions
)

func shorten(commit string) string {
	suffix := ""
	if n := len(commit) - len(dirty); n > 0 && commit[n:] == dirty {
		commit, suffix = commit[:n], dirty
	}
	return commit[:min(len(commit), shortCommit)] + suffix
}

// String is the version, and behind a "+" the commit where it is known.
func (b BuildInfo) String() string {
	if b.Commit == "" {
		return cmp.Or(b.Version, "dev")
	}
	return cmp.Or(b.Version, "dev") + "+" + b.Commit
}

// Build says which build of the program this is: the version, and the commit where the build knows it.
func Build() string { return ReadBuild().String() }
