package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// exportCommand makes the command kisgrid export, which writes all documents of a cluster into a folder, one file each.
func exportCommand() *cobra.Command {
	var s server
	var o output
	var dry bool
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write all documents of a cluster into a folder",
		Long: `export writes every document as it stands in etcd into a file of its own. To apply the folder to the same cluster changes nothing; to
apply it to another cluster copies the flows.

The folder is new, empty, or that of an earlier export. Files of an earlier export whose documents are gone are removed: the hidden file
.kisgrid-export lists them. Other files stay, but documents that export has not written are refused, because the folder would not be what
the cluster has.`,
		Example: "  kisgrid export backup\n  kisgrid export backup --dry-run",
		Args:    exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var docs []definition.Document
			err := s.admin(func(a pb.AdminClient) error {
				for _, kind := range []string{"flows", "functions", "connectors"} {
					got, err := a.Get(cmd.Context(), &pb.GetRequest{Kind: kind})
					if err != nil {
						return err
					}
					for _, r := range got.GetResources() {
						d := r.GetDocument()
						docs = append(docs, definition.Document{Kind: definition.Kind(d.GetKind()), Name: d.GetName(), YAML: d.GetYaml()})
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			f := exportFolder{dir: args[0]}
			if err := f.look(docs); err != nil {
				return err
			}
			if !dry {
				if err := f.write(docs); err != nil {
					return err
				}
			}
			if o.format == "json" {
				v := map[string]any{"documents": len(docs), "folder": args[0], "removed": append([]string{}, f.gone...)}
				if dry {
					v["dry_run"] = true
				}
				return printJSON(cmd.OutOrStdout(), v)
			}
			would := ""
			if dry {
				would = "would be "
			}
			for _, name := range f.gone {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %sremoved: its document is gone\n", filepath.Join(args[0], name), would)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d documents %swritten into %s\n", len(docs), would, args[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be written and removed")
	o.bind(cmd, "json")
	s.bind(cmd)
	return cmd
}

// exportFolder is a folder of exported documents.
type exportFolder struct {
	dir     string
	earlier []string // the files of earlier exports
	gone    []string // those of them whose documents are gone
}

// exportList is the name of the file that lists the files of an export, one a line.
const exportList = ".kisgrid-export"

// look reads the folder. It returns an error if the folder has documents that are not of an export.
func (f *exportFolder) look(docs []definition.Document) error {
	list, err := os.ReadFile(filepath.Join(f.dir, exportList))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now := map[string]bool{}
	for _, d := range docs {
		now[d.FileName()] = true
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimRight(name, "\r\n")
		if name == "" || name != filepath.Base(name) {
			continue // only files of the folder itself are ever removed
		}
		f.earlier = append(f.earlier, name)
		if !now[name] {
			if _, err := os.Lstat(filepath.Join(f.dir, name)); err == nil {
				f.gone = append(f.gone, name)
			}
		}
	}
	return filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		name := filepath.Base(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == f.dir:
			return nil
		case err != nil:
			return err
		case path != f.dir && strings.HasPrefix(name, "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || !slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(name)) || definition.IsKustomization(name) || definition.IsTestFile(name) && !slices.Contains(f.earlier, name):
			return nil
		case filepath.Dir(path) == filepath.Clean(f.dir) && slices.Contains(f.earlier, name):
			return nil
		}
		return batch.Errorf(batch.CodeConflict, "the folder %s has documents that are not of an export, such as %s, and nothing was written: name a new or empty folder", f.dir, path)
	})
}

// write writes the documents, and removes the files whose documents are gone. Until the end the list has the files of both exports, so that an
// export that is cut off can be made again.
func (f *exportFolder) write(docs []definition.Document) error {
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return err
	}
	var names []string
	for _, d := range docs {
		names = append(names, d.FileName())
	}
	if err := f.writeList(append(slices.Clone(f.earlier), names...)); err != nil {
		return err
	}
	if err := definition.ExportDir(f.dir, docs); err != nil {
		return err
	}
	for _, name := range f.gone {
		if err := os.Remove(filepath.Join(f.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.writeList(names)
}

// writeList writes the list of the export's files.
func (f *exportFolder) writeList(names []string) error {
	slices.Sort(names)
	return os.WriteFile(filepath.Join(f.dir, exportList), []byte(strings.Join(slices.Compact(names), "\n")+"\n"), 0o666)
}
