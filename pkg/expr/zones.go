package expr

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"io"
	"slices"
	"sync"
	"time"
)

// zoneFile is the zone database of the IANA, as Go distributes it in lib/time/zoneinfo.zip. It is a part of the program, and the machine's own
// database is not asked, so that every worker of one build computes the same times.
//
//go:embed zoneinfo.zip
var zoneFile []byte

// zoneFiles opens the database once.
var zoneFiles = sync.OnceValue(func() *zip.Reader {
	files, err := zip.NewReader(bytes.NewReader(zoneFile), int64(len(zoneFile)))
	if err != nil {
		panic(err) // a test reads it
	}
	return files
})

// zoneNames lists the names of all zones.
func zoneNames() []string {
	var names []string
	for _, f := range zoneFiles().File {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
}

// zones are the zones that were used in this process, by name.
var zones sync.Map

// findZone returns the zone of a name, such as Europe/Zurich.
func findZone(name string) (*time.Location, bool) {
	if name == "UTC" {
		return time.UTC, true
	}
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), true
	}
	zone, ok := readZone(name)
	if ok {
		zones.Store(name, zone)
	}
	return zone, ok
}

// readZone reads a zone from the database.
func readZone(name string) (*time.Location, bool) {
	for _, f := range zoneFiles().File {
		if f.Name != name {
			continue
		}
		file, err := f.Open()
		if err != nil {
			return nil, false
		}
		data, err := io.ReadAll(file)
		if err != nil {
			return nil, false
		}
		location, err := time.LoadLocationFromTZData(name, data)
		return location, err == nil
	}
	return nil, false
}
