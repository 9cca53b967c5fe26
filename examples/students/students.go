// Package students is KisFlow's example on KisGrid: one flow averages two scores of each student and saves the average; a second
// flow loads the average and adds a third score.
//
// The files, in reading order:
//
//   - students.go: the functions of both flows.
//   - conf.go: the documents of both flows.
package students

import (
	"context"
	"strconv"

	"github.com/kisgrid/kisgrid/pkg/kis"
)

// Student is the part of a row that VerifyStu reads.
type Student struct {
	ID int `json:"stu_id"`
}

// Scores12 is a row of CalStuAvgScore12.
type Scores12 struct {
	ID     int `json:"stu_id"`
	Score1 int `json:"score_1"`
	Score2 int `json:"score_2"`
}

// Scores3 is a row of CalStuAvgScore3; LoadScoreAvg12 fills in Avg12.
type Scores3 struct {
	ID     int     `json:"stu_id"`
	Score3 int     `json:"score_3"`
	Avg12  float64 `json:"avg_score_1_2,omitempty"`
}

// Avg is the row that both flows pass on, and that the first one saves.
type Avg struct {
	ID  int     `json:"stu_id"`
	Avg float64 `json:"avg_score"`
}

// Register registers the functions that the documents of both flows name.
func Register(r *kis.Registry) {
	r.Func("VerifyStu", kis.Verify(VerifyStu))
	r.Func("AvgStuScore12", kis.Calculate(AvgStuScore12))
	r.Func("SaveScoreAvg12", kis.Save(SaveScoreAvg12))
	r.Func("LoadScoreAvg12", kis.Load(key, LoadScoreAvg12))
	r.Func("AvgStuScore3", kis.Calculate(AvgStuScore3))
	r.Func("PrintStuAvgScore", kis.Expand(PrintStuAvgScore))
}

// VerifyStu drops rows whose student's id is out of range.
func VerifyStu(_ context.Context, s Student) error {
	if s.ID < 0 || s.ID > 999 {
		return kis.Drop("stu_id %d is outside 0..999", s.ID)
	}
	return nil
}

// AvgStuScore12 averages the first two scores.
func AvgStuScore12(_ context.Context, s Scores12) (Avg, error) {
	return Avg{s.ID, float64(s.Score1+s.Score2) / 2}, nil
}

// SaveScoreAvg12 saves the average under the student's id.
func SaveScoreAvg12(_ context.Context, to kis.Writer, a Avg) error {
	to.Set(strconv.Itoa(a.ID), "avg_score", a.Avg)
	return nil
}

func key(s Scores3) string { return strconv.Itoa(s.ID) }

// LoadScoreAvg12 adds the saved average to the row. A row waits until its average is saved.
func LoadScoreAvg12(_ context.Context, s Scores3, saved *Avg) (Scores3, error) {
	s.Avg12 = saved.Avg
	return s, nil
}

// AvgStuScore3 averages the third score and the two that were averaged before.
func AvgStuScore3(_ context.Context, s Scores3) (Avg, error) {
	return Avg{s.ID, (float64(s.Score3) + 2*s.Avg12) / 3}, nil
}

// PrintStuAvgScore passes the average on. The rows that the last function passes on are the flow's output.
func PrintStuAvgScore(_ context.Context, a Avg, emit func(Avg)) error {
	emit(a)
	return nil
}
