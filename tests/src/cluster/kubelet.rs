//! Where kubelet and a container runtime put a container among the cgroups.

use super::container::Container;
use super::pod::Pod;

/// Who lays the cgroups out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Folders.
    Cgroupfs,
    /// Slices and scopes of systemd.
    Systemd,
}

/// Which of the three classes of service a pod has, by what it requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Everything requested is the limit, too.
    Guaranteed,
    /// Something is requested.
    Burstable,
    /// Nothing is.
    BestEffort,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// containerd.
    Containerd,
    /// CRI-O.
    Crio,
    /// docker, by cri-dockerd.
    Docker,
}

impl Quality {
    /// As in the pod's status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// As among the cgroups: the guaranteed are above the others.
    fn folder(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

impl Runtime {
    /// What a container's id has in front of it in a pod's status.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
        }
    }

    /// What the scope's name begins with.
    fn scope(self) -> &'static str {
        match self {
            Self::Containerd => "cri-containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
        }
    }
}

/// The cgroup of a pod, from the hierarchy's root.
#[must_use]
pub fn pod(driver: Driver, pod: &Pod) -> String {
    let (uid, folder) = (pod.cgroup_uid(), pod.quality.folder());
    match driver {
        Driver::Cgroupfs => match folder {
            Some(folder) => format!("kubepods/{folder}/pod{uid}"),
            None => format!("kubepods/pod{uid}"),
        },
        Driver::Systemd => {
            // A dash in a slice's name would be another level.
            let uid = uid.replace('-', "_");
            match folder {
                Some(folder) => format!(
                    "kubepods.slice/kubepods-{folder}.slice/kubepods-{folder}-pod{uid}.slice"
                ),
                None => format!("kubepods.slice/kubepods-pod{uid}.slice"),
            }
        }
    }
}

/// The cgroup of a container, from the hierarchy's root.
#[must_use]
pub fn container(driver: Driver, of: &Pod, container: &Container) -> String {
    let (pod, id) = (pod(driver, of), &container.id);
    match driver {
        Driver::Cgroupfs => format!("{pod}/{id}"),
        Driver::Systemd => format!("{pod}/{}-{id}.scope", of.runtime.scope()),
    }
}
