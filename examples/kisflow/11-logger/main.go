// The program sets a logger of its own, in debug mode.
package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/kisgrid/kisgrid/examples/kisflow/scores"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/file"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
)

// MyLogger is a log.KisLogger that prints each message with its level before it.
type MyLogger struct{ debug atomic.Bool }

func (l *MyLogger) print(level, format string, args []any) {
	fmt.Printf("["+level+"] "+format+"\n", args...)
}

func (l *MyLogger) SetDebugMode(enable bool)          { l.debug.Store(enable) }
func (l *MyLogger) InfoF(format string, args ...any)  { l.print("info", format, args) }
func (l *MyLogger) ErrorF(format string, args ...any) { l.print("error", format, args) }

func (l *MyLogger) DebugF(format string, args ...any) {
	if l.debug.Load() {
		l.print("debug", format, args)
	}
}

func (l *MyLogger) InfoFX(_ context.Context, format string, args ...any)  { l.InfoF(format, args...) }
func (l *MyLogger) ErrorFX(_ context.Context, format string, args ...any) { l.ErrorF(format, args...) }
func (l *MyLogger) DebugFX(_ context.Context, format string, args ...any) { l.DebugF(format, args...) }

func init() { scores.Register(kis.Pool()) }

func main() {
	log.SetLogger(&MyLogger{})
	log.Logger().SetDebugMode(true)
	if err := run(context.Background()); err != nil {
		log.Logger().ErrorF("%v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := file.ConfigImportYaml("conf/"); err != nil {
		return err
	}
	flow1 := kis.Pool().GetFlow("CalStuAvgScore")
	_ = flow1.CommitRow(`{"stu_id":101, "score_1":100, "score_2":90, "score_3":80}`)
	_ = flow1.CommitRow(`{"stu_id":1001, "score_1":100, "score_2":70, "score_3":60}`)
	return flow1.Run(ctx)
}
