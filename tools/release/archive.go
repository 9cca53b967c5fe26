package main

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"os"
	"time"
)

// member is one file of an archive: its name there, the path of its content, and its permissions.
type member struct {
	name, path string
	mode       int64
}

// writeArchive writes a gzipped tar archive, in which all files stand in one folder. Nothing in it depends on the user, the machine or the
// time of the build: every file has the time of the commit.
func writeArchive(path, folder string, files []member, when time.Time) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, m := range files {
		if err := add(t, folder+"/"+m.name, m, when); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// add writes one file into the archive.
func add(t *tar.Writer, name string, m member, when time.Time) error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: m.mode, Size: info.Size(), ModTime: when, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
