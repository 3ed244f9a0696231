//! What Apache Flink needs for the same queries over the same shape of events.
//!
//! Flink 2.3.0, Java 17, one JVM with two lanes on an idle machine of two cores, streaming mode, default settings, heap state,
//! no checkpoints, JSON files, blackhole sink; 3 million events (1,016 MB), better of two runs in one warm JVM. CPU is that of
//! the whole JVM from submit to end, compiler and collector included. Another machine gives other figures.

pub struct FlinkFigure {
    pub query: &'static str,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_rss_gb: f64,
}

const EVENTS_MILLIONS: f64 = 3.0;

const FIGURES: &[FlinkFigure] = &[
    FlinkFigure { query: "q0", wall_seconds: 9.4, cpu_seconds: 18.1, peak_rss_gb: 1.7 },
    FlinkFigure { query: "q1", wall_seconds: 7.4, cpu_seconds: 14.1, peak_rss_gb: 1.4 },
    FlinkFigure { query: "q2", wall_seconds: 8.3, cpu_seconds: 15.9, peak_rss_gb: 1.8 },
    FlinkFigure { query: "q3", wall_seconds: 9.0, cpu_seconds: 17.2, peak_rss_gb: 2.4 },
    FlinkFigure { query: "q4", wall_seconds: 15.3, cpu_seconds: 29.7, peak_rss_gb: 5.3 },
    FlinkFigure { query: "q5", wall_seconds: 12.7, cpu_seconds: 24.7, peak_rss_gb: 2.1 },
    FlinkFigure { query: "q7", wall_seconds: 16.5, cpu_seconds: 32.1, peak_rss_gb: 5.6 },
    FlinkFigure { query: "q8", wall_seconds: 11.1, cpu_seconds: 20.3, peak_rss_gb: 1.9 },
    FlinkFigure { query: "q9", wall_seconds: 21.7, cpu_seconds: 42.8, peak_rss_gb: 5.9 },
    FlinkFigure { query: "q11", wall_seconds: 11.4, cpu_seconds: 22.0, peak_rss_gb: 2.4 },
    FlinkFigure { query: "q12", wall_seconds: 10.5, cpu_seconds: 20.2, peak_rss_gb: 1.9 },
    FlinkFigure { query: "q15", wall_seconds: 12.6, cpu_seconds: 24.2, peak_rss_gb: 1.9 },
    FlinkFigure { query: "q16", wall_seconds: 19.4, cpu_seconds: 37.9, peak_rss_gb: 4.7 },
    FlinkFigure { query: "q17", wall_seconds: 14.6, cpu_seconds: 28.4, peak_rss_gb: 3.1 },
    FlinkFigure { query: "q18", wall_seconds: 15.0, cpu_seconds: 29.1, peak_rss_gb: 4.8 },
    FlinkFigure { query: "q19", wall_seconds: 19.4, cpu_seconds: 37.9, peak_rss_gb: 5.4 },
    FlinkFigure { query: "q20", wall_seconds: 18.7, cpu_seconds: 36.6, peak_rss_gb: 5.9 },
    FlinkFigure { query: "q21", wall_seconds: 13.4, cpu_seconds: 25.9, peak_rss_gb: 1.3 },
    FlinkFigure { query: "q22", wall_seconds: 8.6, cpu_seconds: 16.5, peak_rss_gb: 1.6 },
];

/// `None` for a query that was not measured in Flink in this form.
pub fn figure(query: &str) -> Option<&'static FlinkFigure> {
    FIGURES.iter().find(|figure| figure.query == query)
}

impl FlinkFigure {
    pub fn cpu_seconds_per_million_events(&self) -> f64 {
        self.cpu_seconds / EVENTS_MILLIONS
    }
}
