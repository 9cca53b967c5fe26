package main

import (
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes the list of modules from which the programs of one archive were built. It reads them from the programs, where the linker
// has written them: so they are the modules that the programs contain, not those that go.mod allows. The SBOM has no serial number, so
// that the same commit gives the same bytes.
func writeSBOM(path string, r *release, platform string, built []*debug.BuildInfo) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	e := cyclonedx.NewBOMEncoder(f, cyclonedx.BOMFileFormatJSON)
	e.SetPretty(true)
	if err := e.Encode(sbom(r, platform, built)); err != nil {
		_ = f.Close() // the first error counts
		return err
	}
	return f.Close()
}

// sbom makes the SBOM of one platform.
func sbom(r *release, platform string, built []*debug.BuildInfo) *cyclonedx.BOM {
	own := component(cyclonedx.ComponentTypeApplication, debug.Module{Path: modulePath, Version: r.version})
	own.Properties = &[]cyclonedx.Property{{Name: "kisgrid:commit", Value: r.commit}, {Name: "kisgrid:platform", Value: platform}, {Name: "kisgrid:programs", Value: strings.Join(programs, ",")}}
	own.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}}
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = ""
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.when.Format(time.RFC3339), Component: &own}
	var components []cyclonedx.Component
	var needs []string
	modules := modulesOf(built)
	if len(built) > 0 { // the standard library has the version of the Go that built the programs
		modules = append(modules, debug.Module{Path: "std", Version: "v" + strings.TrimPrefix(built[0].GoVersion, "go")})
	}
	for _, m := range modules {
		c := component(cyclonedx.ComponentTypeLibrary, m)
		if m.Sum != "" {
			c.Properties = &[]cyclonedx.Property{{Name: "kisgrid:go.sum", Value: m.Sum}}
		}
		components = append(components, c)
		needs = append(needs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: own.BOMRef, Dependencies: &needs}}
	return bom
}

// component describes a module. Its package URL is the name that vulnerability databases use.
func component(kind cyclonedx.ComponentType, m debug.Module) cyclonedx.Component {
	version := m.Version
	if m.Path == "std" {
		version = strings.TrimPrefix(version, "v") // those databases write it without the v
	}
	purl := "pkg:golang/" + strings.ToLower(m.Path) + "@" + strings.ReplaceAll(version, "+", "%2B")
	return cyclonedx.Component{Type: kind, BOMRef: purl, Name: m.Path, Version: version, PackageURL: purl}
}
