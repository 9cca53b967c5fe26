package command

import (
	"runtime/debug"
	"testing"
)

// A build says the release and the commit, whoever knows them: the linker, or Go that stamped it.
func TestReadBuild(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	stamped := func(modified string) *debug.BuildInfo {
		return &debug.BuildInfo{
			Main:     debug.Module{Path: modulePath, Version: "v0.0.0-20261130075528-0123456789ab+dirty"},
			Settings: []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "vcs.revision", Value: hash}, {Key: "vcs.modified", Value: modified}},
		}
	}
	unstamped := func(path, version string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: path, Version: version}}
	}
	for name, c := range map[string]struct {
		info            *debug.BuildInfo
		version, commit string
		want            string
	}{
		"the linker knows both":                      {unstamped(modulePath, "(devel)"), "v1.2.3", hash, "v1.2.3+0123456789ab"},
		"the linker knows that files differ":         {unstamped(modulePath, "(devel)"), "v1.2.3-dirty", hash + "-dirty", "v1.2.3-dirty+0123456789ab-dirty"},
		"the linker comes before a stamp":            {stamped("true"), "v1.2.3", "fedcba9876543210", "v1.2.3+fedcba987654"},
		"Go stamped a checkout":                      {stamped("false"), "dev", "", "dev+0123456789ab"},
		"Go stamped a checkout whose files differ":   {stamped("true"), "dev", "", "dev+0123456789ab-dirty"},
		"go install of a release":                    {unstamped(modulePath, "v1.2.3"), "dev", "", "v1.2.3"},
		"somebody's worker is no release of KisGrid": {unstamped("example.com/school", "v9.9.9"), "dev", "", "dev"},
		"nobody knows":                               {unstamped(modulePath, "(devel)"), "dev", "", "dev"},
		"no build information":                       {nil, "dev", "", "dev"},
		"a short commit":                             {nil, "dev", "0123", "dev+0123"},
	} {
		if got := readBuild(c.info, c.version, c.commit); got.String() != c.want || got.Go == "" || got.Platform == "" {
			t.Errorf("%s: %+v is %s, want %s", name, got, got.String(), c.want)
		}
	}
}
