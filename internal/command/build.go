package command

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

// Variables that the linker sets, with -X github.com/kisgrid/kisgrid/internal/command.Version=v1.2.3. They don't change while
// a program runs.
var (
	// Version is the release of the program. "dev" means that the linker did not set it.
	Version = "dev"
	// Commit is the full hash of the commit that the program was built from, with "-dirty" at its end when files differed from
	// the commit. Empty means that the linker did not set it; then the stamp of the go command is used, if there is one.
	Commit = ""
)

// modulePath is the path of this module.
const modulePath = "github.com/kisgrid/kisgrid"

// BuildInfo describes one build of a program.
type BuildInfo struct {
	// Version is the release, such as "v1.2.3", or "dev" for a build that is not a release.
	Version string
	// Commit is the first twelve digits of the commit, with "-dirty" at its end when files differed from the commit. Empty
	// means that it is not known. In a worker of another module it is a commit of that module.
	Commit string
	// Go is the version of Go that built the program, such as "go1.26.8".
	Go string
	// Platform is the system and processor that the program was built for, such as "linux/amd64".
	Platform string
}

// ReadBuild returns the description of the build of the running program.
func ReadBuild() BuildInfo {
	info, _ := debug.ReadBuildInfo() // nil where the program has none; then only the linker's values count
	return readBuild(info, Version, Commit)
}

// readBuild makes a BuildInfo of the values that the linker set, and of the stamp of the go command where the linker set none.
// info may be nil.
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
	// A program of "go install …@v1.2.3" has no values of the linker and no stamp of a commit. Its module has the version.
	if main := info.Main; version == "dev" && b.Commit == "" && main.Path == modulePath && main.Version != "" && main.Version != "(devel)" {
		b.Version = main.Version
	}
	return b
}

// The two parts of a shortened commit such as "0123456789ab-dirty".
const (
	dirty       = "-dirty" // end of a commit from which files differed
	shortCommit = 12       // digits, as in the pseudo-versions of Go modules
)

// shorten returns the first digits of a commit, and keeps "-dirty" at its end.
func shorten(commit string) string {
	suffix := ""
	if n := len(commit) - len(dirty); n > 0 && commit[n:] == dirty {
		commit, suffix = commit[:n], dirty
	}
	return commit[:min(len(commit), shortCommit)] + suffix
}

// String returns the version, followed by "+" and the commit where it is known. Example: "v1.2.3+0123456789ab".
func (b BuildInfo) String() string {
	if b.Commit == "" {
		return cmp.Or(b.Version, "dev")
	}
	return cmp.Or(b.Version, "dev") + "+" + b.Commit
}

// Build returns version and commit of this program as one text, such as "v1.2.3+0123456789ab", for logs and records.
func Build() string { return ReadBuild().String() }
